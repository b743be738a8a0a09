"""An index answered over HTTP, on Ray Serve: ingress, encoders, searchers, and the explorer's page."""
