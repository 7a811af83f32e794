// The page that compares two samples: play, switch, loop and match the loudness of both at one playhead.

import { $, $$, clock } from "./app.js";
import { createPlayhead } from "./playhead.js";
import { areOn, isTaken, player } from "./player.js";

const LONGEST_S = 600; // both together; decoded, a minute of stereo takes 23 MB

const ab = $("#ab");
const apart = $(".two-players"); // decks for the player of every page, where this one cannot be
const tracks = ab ? $$(".track", ab) : [];
const lengths = tracks.map((track) => Number(track.dataset.duration));
const length_s = Math.min(...lengths);

let context = null;
let playhead = null; // there once both are decoded
let side = 0;
let offset_s = 0; // where it was when it last started, or stopped
let started = null; // that moment of the context's clock; null while nothing plays

const loop = () => ($("#id_loop").checked ? [Number($("[name=from]", ab).value), Number($("[name=to]", ab).value)] : null);

function position() {
  if (started === null) return offset_s;
  const at_s = offset_s + Math.max(context.currentTime - started, 0);
  const [from, to] = loop() ?? [0, Infinity];
  return at_s < to ? at_s : from + ((at_s - from) % (to - from));
}

/** The gains at which both are as loud as the softer one. */
function levels() {
  const loudness = tracks.map((track) => track.dataset.loudness);
  if (!$("#id_matched").checked || loudness.includes("")) return [1, 1];
  const softest = Math.min(...loudness.map(Number));
  return loudness.map((lufs) => 10 ** ((softest - lufs) / 20));
}

async function decode({ dataset }) {
  const response = await fetch(dataset.url);
  if (!response.ok) throw new Error("it cannot be loaded");
  return context.decodeAudioData(await response.arrayBuffer());
}

async function load() {
  context = new AudioContext({ sampleRate: Number(tracks[0].dataset.rate) });
  playhead = createPlayhead(context, await Promise.all(tracks.map(decode)), levels());
  playhead.choose(side);
}

function fallBack(why) {
  const reason = $("#why-apart", apart);
  reason.textContent = `${why}, so the two play one after the other here.`;
  reason.hidden = false;
  apart.classList.add("needed");
  ab.replaceWith(apart);
}

async function play() {
  try {
    if (!playhead) await load();
  } catch {
    fallBack("One of them could not be loaded or decoded");
    return;
  }
  await context.resume();
  player.audio.pause();
  run();
}

function run() {
  const bounds = loop();
  if (bounds && (offset_s < bounds[0] || offset_s >= bounds[1])) [offset_s] = bounds;
  started = context.currentTime;
  playhead.start(offset_s, bounds, started);
  follow();
}

function pause() {
  if (started === null) return;
  offset_s = position();
  started = null;
  playhead.stop();
}

function seek(seconds) {
  const goesOn = started !== null;
  if (goesOn) pause();
  offset_s = Math.min(Math.max(seconds, 0), length_s);
  if (goesOn) run();
  show();
}

function choose(next) {
  side = next;
  playhead?.choose(side);
  show();
}

const toggle = () => (started === null ? play() : (pause(), show()));

function show() {
  const at_s = position();
  const slider = $(".playhead", ab);
  slider.value = at_s;
  slider.setAttribute("aria-valuetext", `${clock(at_s)} of ${clock(length_s)}, ${"AB"[side]} is heard`);
  $(".tracks", ab).style.setProperty("--at", `${(100 * at_s) / length_s}%`);
  $(".clock", ab).textContent = `${clock(at_s)} / ${clock(length_s)}`;
  ab.classList.toggle("playing", started !== null);
  $(".both", ab).ariaLabel = started === null ? "Play both" : "Pause both";
  $$(".side", ab).forEach((button, of) => button.setAttribute("aria-pressed", of === side));
  tracks.forEach((track, of) => track.classList.toggle("heard", of === side));
}

let frame = 0;
function follow() {
  if (started !== null && position() >= length_s) { pause(); offset_s = 0; }
  show();
  cancelAnimationFrame(frame);
  if (started !== null) frame = requestAnimationFrame(follow);
}

function showLoop() {
  const [from, to] = [$("[name=from]", ab), $("[name=to]", ab)];
  $(".tracks", ab).style.setProperty("--from", `${(100 * from.value) / length_s}%`);
  $(".tracks", ab).style.setProperty("--to", `${(100 * to.value) / length_s}%`);
  for (const end of [from, to]) end.setAttribute("aria-valuetext", clock(end.value));
  ab.classList.toggle("looping", $("#id_loop").checked);
}

const SHORTEST_LOOP_S = 0.5;

function changeLoop({ target }) {
  const [from, to] = [$("[name=from]", ab), $("[name=to]", ab)];
  if (target === from) from.value = Math.min(from.value, to.value - SHORTEST_LOOP_S);
  if (target === to) to.value = Math.max(to.value, Number(from.value) + SHORTEST_LOOP_S);
  if (target !== $("#id_loop")) $("#id_loop").checked = true;
  showLoop();
}

const move = (seconds) => ({ shiftKey }) => seek(position() + (shiftKey ? Math.sign(seconds) : seconds));
const KEYS = {
  a: () => choose(0), b: () => choose(1), x: () => choose(1 - side), " ": toggle, k: toggle,
  arrowleft: move(-5), arrowright: move(5), home: () => seek(0), end: () => seek(length_s),
};

function start() {
  if (lengths[0] + lengths[1] > LONGEST_S) {
    fallBack("Both together are too long to keep in memory");
    return;
  }
  apart.remove();
  $(".playhead", ab).max = length_s;
  for (const end of $$(".loop input", ab)) end.max = length_s;
  $("[name=to]", ab).value = length_s;
  $(".both", ab).addEventListener("click", toggle);
  $$(".side", ab).forEach((button, of) => button.addEventListener("click", () => choose(of)));
  $(".playhead", ab).addEventListener("input", ({ target }) => seek(Number(target.value)));
  $("#id_matched").addEventListener("change", () => playhead?.setLevels(levels(), side));
  for (const control of [$("#id_loop"), ...$$(".loop input", ab)]) {
    control.addEventListener("input", (event) => {
      const at_s = position(); // in the loop as it was
      changeLoop(event);
      seek(at_s);
    });
  }
  player.audio.addEventListener("play", () => { pause(); show(); });
  document.addEventListener("keydown", (event) => {
    const act = KEYS[event.key.toLowerCase()];
    if (!act || event.defaultPrevented || !areOn() || isTaken(event)) return;
    event.preventDefault();
    event.stopImmediatePropagation(); // before the player's own keys
    act(event);
  }, { capture: true });
  showLoop();
  show();
}

if (ab) start();
