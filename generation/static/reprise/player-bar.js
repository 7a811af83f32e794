// The bar below the page and the lock screen: what plays, and its other buttons. Loaded when something first plays.

import { $, clock } from "./app.js";

export function startBar(bar, player) {
  const { audio } = player;
  const title = $(".title", bar);
  const mute = $("[name=mute]", bar);

  const showTrack = () => {
    if (!player.track) return;
    title.textContent = player.track.title;
    $(".which", bar).textContent = player.track.name;
    showOnLockScreen(player.track);
  };
  const showTime = () => {
    if (player.track) $(".clock", bar).textContent = `${clock(audio.currentTime)} / ${clock(player.track.length_s)}`;
  };
  const showMute = () => { mute.setAttribute("aria-pressed", audio.muted); };

  audio.addEventListener("loadstart", showTrack);
  for (const type of ["loadstart", "timeupdate", "seeking"]) audio.addEventListener(type, showTime);
  audio.addEventListener("volumechange", showMute);

  title.addEventListener("click", () => player.reveal());
  mute.addEventListener("click", () => { audio.muted = !audio.muted; });
  $("[name=previous]", bar).addEventListener("click", () => player.step(-1));
  $("[name=next]", bar).addEventListener("click", () => player.step(1));
  $("[name=close]", bar).addEventListener("click", () => {
    player.reveal();
    player.close();
  });

  listenToMediaKeys(player);
  showTrack();
  showTime();
  showMute();
}

// The keys of a keyboard or headset, and the screen of a locked phone

function showOnLockScreen({ name, title }) {
  if (!navigator.mediaSession) return;
  navigator.mediaSession.metadata = new MediaMetadata({ title, artist: name, album: "Reprise" });
}

function listenToMediaKeys(player) {
  const { audio } = player;
  const actions = {
    play: () => player.toggle(),
    pause: () => audio.pause(),
    stop: () => player.close(),
    previoustrack: () => player.step(-1),
    nexttrack: () => player.step(1),
    seekbackward: ({ seekOffset }) => player.seek(audio.currentTime - (seekOffset ?? 5)),
    seekforward: ({ seekOffset }) => player.seek(audio.currentTime + (seekOffset ?? 5)),
    seekto: ({ seekTime }) => player.seek(seekTime),
  };
  for (const [action, run] of Object.entries(actions)) navigator.mediaSession?.setActionHandler(action, run);
}
