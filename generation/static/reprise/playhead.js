// Two sounds at one playhead. Both run all the time, started at the same moment of one clock, and only their gains
// change: so switching can neither shift one against the other nor click.

const FADE_S = 0.005;

/** Return a playhead over two AudioBuffers in a context; `levels` are their gains where they are heard. */
export function createPlayhead(context, buffers, levels = [1, 1]) {
  const faders = buffers.map(() => new GainNode(context, { gain: 0 }));
  for (const fader of faders) fader.connect(context.destination);
  const heard = [0, 0]; // the gains that were asked for last
  let sources = [];

  const fade = (side, level, when) => {
    faders[side].gain.setValueAtTime(heard[side], when);
    faders[side].gain.linearRampToValueAtTime(level, when + FADE_S);
    heard[side] = level;
  };

  return {
    /** Hear this side, 0 or 1, from a moment of the context's clock on. */
    choose(side, when = context.currentTime) {
      buffers.forEach((_, other) => fade(other, other === side ? levels[other] : 0, when));
    },

    setLevels(next, side) {
      levels = next;
      this.choose(side);
    },

    /** Run both from `at_s` on; within `loop`, [from, to] in seconds, for ever. */
    start(at_s, loop = null, when = context.currentTime) {
      this.stop();
      const [loopStart, loopEnd] = loop ?? [0, 0];
      sources = buffers.map((buffer, side) => {
        const source = new AudioBufferSourceNode(context, { buffer, loop: loop !== null, loopStart, loopEnd });
        source.connect(faders[side]);
        source.start(when, at_s);
        return source;
      });
    },

    stop() {
      for (const source of sources) source.disconnect();
      sources = [];
    },
  };
}
