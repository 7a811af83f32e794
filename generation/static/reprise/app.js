// What the studio adds where there is JavaScript; every page works without it.

export const $ = (selector, root = document) => root.querySelector(selector);
export const $$ = (selector, root = document) => [...root.querySelectorAll(selector)];
export const make = (tag, properties) => Object.assign(document.createElement(tag), properties);

export const clock = (seconds) => `${Math.floor(seconds / 60)}:${String(Math.floor(seconds % 60)).padStart(2, "0")}`;

// Toasts go by themselves, but not while somebody reads them or has the focus in one; errors stay until dismissed.

const TOAST_MS = 10000;

function startToast(toast) {
  const close = make("button", { type: "button", className: "quiet", textContent: "×", ariaLabel: "Dismiss" });
  close.addEventListener("click", () => toast.remove());
  toast.append(close);
  $("[formaction]", toast)?.addEventListener("click", () => setTimeout(() => toast.remove()));
  if (toast.matches(".error")) {
    replaceSame(toast);
    return;
  }
  let timer;
  const start = () => { timer = setTimeout(() => toast.remove(), TOAST_MS); };
  const stop = () => clearTimeout(timer);
  for (const type of ["mouseenter", "focusin"]) toast.addEventListener(type, stop);
  for (const type of ["mouseleave", "focusout"]) toast.addEventListener(type, start);
  start();
}

// A card asks every second, and during an outage hears the same each time.
function replaceSame(error) {
  for (const other of $$(".toast.error")) {
    if (other !== error && $("p", other).textContent === $("p", error).textContent) other.remove();
  }
}

new MutationObserver((changes) => {
  for (const { addedNodes } of changes) for (const node of addedNodes) if (node.matches?.(".toast")) startToast(node);
}).observe($("#toasts"), { childList: true });
$$(".toast").forEach(startToast);

export function showError(text) {
  const toast = make("div", { className: "toast error", role: "alert" });
  toast.append(make("p", { textContent: text }));
  $("#toasts").append(toast);
}

// The form's state is in the URL, so that reload, Back and a copied address bring it back.

const NOT_IN_URL = new Set(["csrfmiddlewaretoken", "request_id", "preset_name"]);
const LONGEST_URL = 6000; // proxies refuse requests whose first line is longer than 8 KB

function formUrl(form) {
  const query = new URLSearchParams();
  for (const [name, value] of new FormData(form)) if (value !== "" && !NOT_IN_URL.has(name)) query.set(name, value);
  if (query.toString().length > LONGEST_URL) query.delete("lyrics");
  return query.size ? `/?${query}` : "/";
}

let urlTimer;
function rememberForm() {
  clearTimeout(urlTimer);
  urlTimer = setTimeout(() => {
    const form = $("#console");
    if (form && location.pathname === "/") history.replaceState(history.state, "", formUrl(form));
  }, 250);
}

document.addEventListener("input", ({ target }) => {
  if (!target.form?.matches("#console")) return;
  if (target.id === "id_t_start") $("#denoise").value = Number(target.value).toFixed(2);
  clearError(target);
  rememberForm();
});

function clearError(field) {
  field.removeAttribute("aria-invalid");
  field.closest(".field")?.querySelector(".errorlist")?.remove();
}

document.addEventListener("keydown", (event) => {
  const { target } = event;
  if (event.key === "Enter" && target.id === "id_init_latent_id") {
    event.preventDefault();
    $("#use-latent").click();
  } else if (event.key === "Enter" && target.id === "id_preset_name") {
    event.preventDefault();
    target.nextElementSibling.click();
  } else if (event.key === "Enter" && (event.ctrlKey || event.metaKey) && target.form?.matches("#console")) {
    $("#generate").click();
  } else if (event.key === "Escape") {
    $$("details.menu[open]").forEach((menu) => { menu.open = false; });
  }
});

document.addEventListener("click", ({ target }) => {
  $$("details.menu[open]").forEach((menu) => { if (!menu.contains(target)) menu.open = false; });
});

// Words and tags are put where they belong without asking the server, which can do it too.

function addTo(field, addition, joint) {
  const text = field.value.replace(/[ ,\n]+$/, "");
  field.value = text ? text + joint + addition : addition;
  field.dispatchEvent(new Event("input", { bubbles: true }));
}

document.addEventListener("click", (event) => {
  const { name, value } = event.target;
  if (!event.target.matches?.(".chips button") || !["add", "tag"].includes(name)) return;
  event.preventDefault();
  if (name === "add") addTo($("#id_caption"), value, ", ");
  else addTo($("#id_lyrics"), `${value}\n`, "\n\n");
});

document.addEventListener("input", ({ target }) => {
  if (target.id !== "id_lyrics") return;
  const count = target.value.split("\n").filter((line) => line.trim() && !/^\s*\[.*\]\s*$/.test(line)).length;
  $("#lines").value = count ? `${count} line${count === 1 ? "" : "s"}` : "";
});

// htmx

const offline = $("#offline");
document.addEventListener("htmx:sendError", () => { offline.hidden = false; });
document.addEventListener("htmx:timeout", () => { offline.hidden = false; });
document.addEventListener("htmx:afterRequest", ({ detail }) => {
  if (detail.xhr.status) offline.hidden = true;
  if (detail.successful && detail.elt.id === "console") $$("[aria-invalid]", detail.elt).forEach(clearError);
});
document.addEventListener("htmx:responseError", ({ detail }) => {
  showError(`The studio answered with an error (${detail.xhr.status}).`);
});
// A refused form leads to what is wrong with it; on a phone, an accepted one to the new card far below.
document.addEventListener("htmx:afterSettle", ({ target, detail }) => {
  if (detail.requestConfig?.path !== "/generation/generate") return;
  if (target.matches?.("#console")) ($("[aria-invalid=true]", target) ?? $(".error", target))?.focus();
  if (target.matches?.("#results")) $(".job", target).scrollIntoView({ block: "nearest" });
});

// Moments are written in UTC, as the server does not know where somebody sits; the browser does.

function showMoments(root) {
  for (const time of $$("time[data-clock]", root)) {
    time.textContent = new Date(time.dateTime).toLocaleString([], { dateStyle: "medium", timeStyle: "short" });
  }
}
showMoments(document);
