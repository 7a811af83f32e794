// The one player. All sound of a page comes from one audio element that stands outside of the cards: so one thing plays
// at a time, and it goes on and keeps its place while cards are replaced. Decks, in the cards, show what it does.

import { $, $$, clock, showError } from "./app.js";

const bar = $("#player");
const audio = $("audio", bar);
const places = new Map(); // how far each sound was heard, in seconds, by its URL
let track = null; // what is in the player

const urlOf = (deck) => $("audio", deck).getAttribute("src"); // its own audio is for pages without JavaScript
const deckInPlayer = () => track && ($(`.deck audio[src="${track.url}"]`)?.closest(".deck") ?? null);
const isInPlayer = (deck) => urlOf(deck) === track?.url;

const read = (deck) => ({
  url: urlOf(deck),
  name: deck.dataset.name,
  title: deck.dataset.title,
  length_s: Number(deck.dataset.duration),
  cards: [deck.closest(".sample"), deck.closest(".job")].filter(Boolean).map((card) => card.id),
});

function load(deck) {
  if (isInPlayer(deck)) return;
  eject();
  track = read(deck);
  audio.src = track.url;
  audio.currentTime = places.get(track.url) ?? 0;
  bar.hidden = false;
  showAll();
}

/** Empty the player, but remember how far it was. */
function eject() {
  if (!track) return;
  audio.pause();
  places.set(track.url, audio.currentTime);
  const deck = deckInPlayer();
  track = null;
  if (deck) show(deck);
}

function play() {
  audio.play().catch(() => {}); // refused where another sound came first; what is broken fires "error"
}

function switchTo(deck) {
  const goesOn = !audio.paused;
  load(deck);
  if (goesOn) play();
}

export const player = {
  audio,
  get track() { return track; },

  /** Play or pause; what is in the player, or else the page's first sound. */
  toggle() {
    if (!track && $(".deck")) load($(".deck"));
    if (!audio.paused) audio.pause();
    else if (track) play();
  },

  seek(seconds) {
    if (!track) return;
    audio.currentTime = Math.min(Math.max(seconds, 0), track.length_s);
    showAll();
  },

  /** Go on with the next deck of the page (1), or the one before (-1), and play it if something plays. */
  step(direction) {
    const decks = $$(".deck");
    const next = decks[decks.indexOf(deckInPlayer()) + direction];
    if (!next) return;
    switchTo(next);
    next.scrollIntoView({ block: "nearest" });
  },

  /** Lead to the deck of what is in the player. */
  reveal() {
    deckInPlayer()?.scrollIntoView({ block: "nearest" });
    $(".play", deckInPlayer() ?? bar).focus({ preventScroll: true });
  },

  close() {
    eject();
    audio.removeAttribute("src");
    audio.load();
    bar.hidden = true;
  },
};

// What a deck shows, and the bar in the same way

function showView(view, { at_s, length_s, isPlaying, name }) {
  view.classList.toggle("playing", isPlaying);
  $(".play", view).ariaLabel = `${isPlaying ? "Pause" : "Play"} ${name}`.trim();
  const seek = $(".seek", view);
  seek.max = length_s;
  seek.value = at_s;
  // Not on the slider: it has an id, so htmx would copy its style attribute to its successor, which the CSP forbids.
  seek.parentElement.style.setProperty("--at", `${(100 * at_s) / length_s}%`);
  seek.setAttribute("aria-valuetext", `${clock(at_s)} of ${clock(length_s)}`);
}

function show(deck) {
  const shown = read(deck);
  const isCurrent = isInPlayer(deck);
  const at_s = isCurrent ? audio.currentTime : (places.get(shown.url) ?? 0);
  showView(deck, { ...shown, at_s, isPlaying: isCurrent && !audio.paused });
}

function showAll() {
  if (!track) return;
  const deck = deckInPlayer();
  if (deck) show(deck);
  showView(bar, { at_s: audio.currentTime, length_s: track.length_s, isPlaying: !audio.paused, name: "" });
}

let frame = 0;
function follow() {
  showAll();
  cancelAnimationFrame(frame); // of a play before, if it was paused for less than a frame
  if (!audio.paused) frame = requestAnimationFrame(follow);
}

for (const type of ["pause", "seeked", "loadstart"]) audio.addEventListener(type, showAll);
audio.addEventListener("play", follow);
audio.addEventListener("ended", () => { audio.currentTime = 0; });
audio.addEventListener("error", () => {
  if (!track) return;
  showError(`${track.name} cannot be played. It may have been deleted, or the studio does not answer.`);
  player.close();
});
audio.addEventListener("loadstart", async () => {
  const { startBar } = await import("./player-bar.js");
  startBar(bar, player);
}, { once: true });

// What people do with decks and bar

const deckAt = (element) => element.closest(".deck"); // none: it is the bar's

document.addEventListener("click", ({ target }) => {
  const button = target.closest(".deck > .play, .player > .play");
  if (!button) return;
  if (deckAt(button)) load(deckAt(button)); // another one pauses what plays
  player.toggle();
});

document.addEventListener("input", ({ target }) => {
  if (!target.matches(".seek")) return;
  const seconds = Number(target.value); // before the deck shows where it was
  if (deckAt(target)) switchTo(deckAt(target));
  player.seek(seconds);
});

// A tenth of a second per press would take minutes: the arrows move as far as the shortcuts do.
const STRIDES_S = {
  ArrowLeft: -5, ArrowDown: -5, PageDown: -15, Home: -Infinity,
  ArrowRight: 5, ArrowUp: 5, PageUp: 15, End: Infinity,
};

document.addEventListener("keydown", (event) => {
  const stride = STRIDES_S[event.key];
  if (!stride || !event.target.matches(".seek") || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  if (deckAt(event.target)) switchTo(deckAt(event.target));
  player.seek(audio.currentTime + (event.shiftKey ? Math.sign(stride) : stride));
});

// Single keys. They can be switched off, for who steers by voice or types with an aid.

const move = (seconds) => ({ shiftKey }) => player.seek(player.audio.currentTime + (shiftKey ? Math.sign(seconds) : seconds));
const go = (direction) => () => { player.step(direction); if (player.track) player.reveal(); };
const toggle = () => player.toggle();
const mute = () => { player.audio.muted = !player.audio.muted; };

/** What the keys are called, what they do, and what runs; those that need a sound leave the key to the page without. */
const SHORTCUTS = [
  { names: ["Space", "K"], does: "Play or pause", run: { " ": toggle, k: toggle } },
  { names: ["←", "→"], does: "5 seconds back or on; 1 second with Shift", needsSound: true, run: { arrowleft: move(-5), arrowright: move(5) } },
  { names: ["Home", "End"], does: "To the start or the end", needsSound: true, run: { home: () => player.seek(0), end: () => player.seek(Infinity) } },
  { names: ["J", "L"], does: "To the take before or after", run: { j: go(-1), l: go(1) } },
  { names: ["M"], does: "Mute", needsSound: true, run: { m: mute } },
  { names: ["?"], does: "This help", run: { "?": help } },
];

export const areOn = () => localStorage.getItem("shortcuts") !== "off";
const switchOn = (isOn) => localStorage.setItem("shortcuts", isOn ? "on" : "off");

async function help() {
  const { showHelp } = await import("./shortcut-help.js");
  showHelp(SHORTCUTS, { areOn, switchOn });
}

/** Whether somebody types, or the key already means something where the focus is. */
export function isTaken({ key, target, ctrlKey, metaKey, altKey }) {
  if (ctrlKey || metaKey || altKey || $("dialog[open]")) return true;
  if (target.matches("input:not([type=range], [type=checkbox]), textarea, select")) return true;
  if (target.matches("[type=range]:not(.seek, .playhead)")) return key.length > 1; // arrows, Home, End
  return key === " " && target.matches("button, summary, a, [type=checkbox]");
}

document.addEventListener("keydown", (event) => {
  if (event.defaultPrevented || !areOn() || isTaken(event)) return;
  const key = event.key.toLowerCase();
  const shortcut = SHORTCUTS.find(({ run }) => Object.hasOwn(run, key));
  const canPlay = player.track || (!shortcut?.needsSound && $(".deck")) || key === "?";
  if (!shortcut || !canPlay) return;
  event.preventDefault();
  shortcut.run[key](event);
});

$("#keys")?.addEventListener("click", help);

// Cards come and go; what was deleted is not heard any longer.

document.addEventListener("htmx:load", ({ detail }) => {
  $$(".deck", detail.elt).forEach(show);
  if (track?.cards.some((id) => $(`#${id}.gone`))) player.close();
});
