"""moto's S3 server as a process: `python s3_server.py PORT`; says "ready", ends when its stdin does.

It answers one request at a time: moto looks whether an object is there and then makes it, in two steps.
GET /counted gives how many requests there were since the last, and the bytes of what they were answered.
"""

from __future__ import annotations

import json
import logging
import os
import sys
import threading
from collections.abc import Iterable
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, MotoRequestHandler, create_backend_app
from werkzeug.serving import make_server


def main() -> None:
    port = int(sys.argv[1])
    os.environ["MOTO_PORT"] = str(port)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    application: Any = DomainDispatcherApplication(create_backend_app)
    turn = threading.Lock()

    counted = {"requests": 0, "bytes": 0}

    def one_by_one(environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        with turn:
            if environ["PATH_INFO"] == "/counted":
                start("200 OK", [("Content-Type", "application/json")])
                told = json.dumps(counted).encode()
                counted.update(requests=0, bytes=0)
                return [told]
            answer = list(application(environ, start))
            counted["requests"] += 1
            counted["bytes"] += sum(map(len, answer))
            return answer

    server = make_server("127.0.0.1", port, one_by_one, threaded=True, request_handler=MotoRequestHandler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print("ready", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
