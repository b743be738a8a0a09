// The service's bearer token: asked for when it is needed, stored for as long as this tab lives.

import { byId } from "./dom.js";

// services below other prefixes of one host have tokens of their own
const KEY = `crater-ray token${new URL(".", location.href).pathname.slice(0, -1)}`;
let asking = null;

export function storedToken() {
  return sessionStorage.getItem(KEY);
}

/** Resolves to whether a token was given. However many requests want one, the page asks once. */
export function askToken(refused) {
  asking ??= dialogue(refused).finally(() => (asking = null));
  return asking;
}

/** Lets the token be changed from the page's head. */
export function tokenButton(button) {
  button.addEventListener("click", async () => {
    if (await askToken(false)) location.reload();
  });
  button.hidden = !storedToken();
}

function dialogue(refused) {
  const dialog = byId("token-dialog");
  const field = byId("token");
  byId("token-refused").hidden = !refused;
  field.value = "";
  dialog.returnValue = "";
  dialog.showModal();
  field.focus();
  return new Promise((resolve) => {
    const form = dialog.querySelector("form");
    const submit = (event) => {
      event.preventDefault();
      dialog.close("given");
    };
    form.addEventListener("submit", submit);
    byId("token-cancel").onclick = () => dialog.close("");
    dialog.addEventListener(
      "close",
      () => {
        form.removeEventListener("submit", submit);
        const given = dialog.returnValue === "given" && field.value.trim() !== "";
        if (given) sessionStorage.setItem(KEY, field.value.trim());
        byId("token-button").hidden = false;
        field.value = "";
        resolve(given);
      },
      { once: true },
    );
  });
}
