// The dialog that lists the shortcuts and switches them off. Loaded when somebody asks for it.

import { $, make } from "./app.js";

export function showHelp(shortcuts, { areOn, switchOn }) {
  const dialog = $("#help") ?? build(shortcuts, switchOn);
  $("input", dialog).checked = areOn();
  dialog.showModal();
}

function build(shortcuts, switchOn) {
  const dialog = make("dialog", { id: "help", className: "help-sheet" });
  dialog.setAttribute("aria-labelledby", "help-title");

  const list = make("dl");
  for (const { names, does } of shortcuts) {
    const keys = make("dt");
    keys.append(...names.map((name) => make("kbd", { textContent: name })));
    list.append(keys, make("dd", { textContent: does }));
  }

  const row = make("p", { className: "field switch" });
  const isOn = make("input", { type: "checkbox", id: "shortcuts-on" });
  isOn.addEventListener("change", () => switchOn(isOn.checked));
  row.append(isOn, make("label", { htmlFor: isOn.id, textContent: "Single keys do this" }));

  const close = make("button", { type: "button", textContent: "Close", autofocus: true });
  close.addEventListener("click", () => dialog.close());

  dialog.append(make("h2", { id: "help-title", textContent: "Keyboard shortcuts" }), list, row, close);
  document.body.append(dialog);
  return dialog;
}
