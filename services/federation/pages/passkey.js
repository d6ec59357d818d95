"use strict";
(() => {
  const button = document.getElementById("passkey");
  const fault = document.getElementById("fault");
  if (!window.PublicKeyCredential || !PublicKeyCredential.parseRequestOptionsFromJSON) {
    return;
  }
  const ask = async (path, members) => {
    const answer = await fetch(path, {
      method: "POST",
      credentials: "same-origin",
      headers: {"content-type": "application/json"},
      body: JSON.stringify({request: button.dataset.request, form_token: button.dataset.token, ...members}),
    });
    const body = await answer.json();
    if (body.location) {
      location.assign(body.location);
      return null;
    }
    if (!answer.ok) {
      throw new Error(body.message || "");
    }
    return body;
  };
  button.addEventListener("click", async () => {
    button.disabled = true;
    fault.textContent = "";
    try {
      const begun = await ask(button.dataset.begin, {});
      if (begun === null) {
        return;
      }
      const publicKey = PublicKeyCredential.parseRequestOptionsFromJSON(begun.options);
      const credential = await navigator.credentials.get({publicKey});
      const remember = document.querySelector("input[name=remember_device]");
      await ask(button.dataset.finish, {
        session_id: begun.session_id,
        credential: credential.toJSON(),
        remember_device: Boolean(remember && remember.checked),
      });
    } catch (error) {
      // What the browser says is in its own language, not the page's.
      fault.textContent = error.constructor === Error && error.message ? error.message : button.dataset.fault;
      button.disabled = false;
      button.focus();
    }
  });
  button.hidden = false;
  for (const other of document.querySelectorAll("[data-with-passkey]")) {
    other.hidden = false;
  }
})();
