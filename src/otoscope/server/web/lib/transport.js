// One player for the whole app: starting one sound stops the other, with short fades so that nothing clicks.
import { useEffect, useState } from "./dom.js";
import { clipSound } from "./api.js";
import { preference } from "./preferences.js";

const FADE_S = 0.005;
const BUFFERS_KEPT = 40;
export const SPEEDS = [1, 0.75, 0.5, 0.25];

/**
 * @typedef {object} Sound what to play
 * @property {string} key the view that shows it, so that only its cursor moves
 * @property {ClipInfo} clip
 * @property {number} start_s
 * @property {number} end_s
 * @property {string} [title]
 * @property {{ values: Float32Array, start_s: number, end_s: number } | null} [loudness] 0…1 over time
 */

/** @typedef {"stopped" | "loading" | "playing" | "paused"} Status */

class Transport extends EventTarget {
  /** @type {Status} */ status = "stopped";
  /** @type {Sound | null} */ sound = null;
  /** @type {Error | null} */ error = null;
  /** @type {AudioContext | null} */ #context = null;
  /** @type {AudioBufferSourceNode | null} */ #source = null;
  /** @type {GainNode | null} */ #fade = null;
  /** @type {Map<string, Promise<AudioBuffer>>} */ #buffers = new Map();
  #startedAt = 0;
  #offset = 0;
  #rate = 1;
  #turn = 0;

  get context() {
    this.#context ??= new AudioContext({ latencyHint: "interactive" });
    return this.#context;
  }

  /** @param {Status} status */
  #become(status) {
    this.status = status;
    this.dispatchEvent(new Event("change"));
  }

  /** @returns {number} where the cursor is, in seconds of the clip */
  position() {
    if (!this.sound) return 0;
    if (this.status !== "playing") return this.sound.start_s + this.#offset;
    const heard = Math.max(0, this.context.currentTime - this.#startedAt) * this.#rate;
    return Math.min(this.sound.end_s, this.sound.start_s + this.#offset + heard);
  }

  /**
   * Play a sound from its start, or from a position in it.
   * @param {Sound} sound @param {number} [from_s] in seconds of the clip
   */
  async play(sound, from_s = sound.start_s) {
    const turn = ++this.#turn;
    this.#silence();
    this.sound = sound;
    this.error = null;
    this.#offset = Math.min(Math.max(0, from_s - sound.start_s), Math.max(0, sound.end_s - sound.start_s - 0.01));
    this.#become("loading");
    try {
      const { url, begins_s } = clipSound(
        sound.clip,
        Math.max(0, sound.start_s),
        Math.min(sound.clip.duration_s, sound.end_s),
      );
      const [buffer] = await Promise.all([this.#load(url), this.context.resume()]);
      if (turn !== this.#turn) return;
      this.#begin(buffer, begins_s, sound);
      this.#become("playing");
    } catch (error) {
      if (turn !== this.#turn) return;
      this.error = error instanceof Error ? error : new Error(String(error));
      this.#become("stopped");
    }
  }

  /** @param {string} url @returns {Promise<AudioBuffer>} */
  #load(url) {
    const kept = this.#buffers.get(url);
    if (kept) return kept;
    const loading = fetch(url).then(async (answer) => {
      if (!answer.ok)
        throw new Error((await answer.json().catch(() => null))?.error ?? "The sound could not be loaded.");
      return this.context.decodeAudioData(await answer.arrayBuffer());
    });
    this.#buffers.set(url, loading);
    loading.catch(() => this.#buffers.delete(url));
    if (this.#buffers.size > BUFFERS_KEPT)
      this.#buffers.delete(/** @type {string} */ (this.#buffers.keys().next().value));
    return loading;
  }

  /** @param {AudioBuffer} buffer @param {number} begins_s in seconds of the clip @param {Sound} sound */
  #begin(buffer, begins_s, sound) {
    const context = this.context;
    const source = new AudioBufferSourceNode(context, { buffer, playbackRate: this.speed });
    const fade = new GainNode(context, { gain: 0 });
    source.connect(fade);
    let last = /** @type {AudioNode} */ (fade);
    const now = context.currentTime + 0.01;
    const lead = Math.max(0, -sound.start_s - this.#offset);
    const from_s = Math.max(0, sound.start_s + this.#offset);
    const into = Math.max(0, from_s - begins_s);
    const heard_s = Math.max(0, Math.min(buffer.duration - into, sound.end_s - from_s));
    const rest = heard_s / this.speed;
    if (sound.loudness) last = this.#follow(last, sound, now, this.speed);
    last.connect(context.destination);
    fade.gain.setValueAtTime(0, now + lead);
    fade.gain.linearRampToValueAtTime(1, now + lead + FADE_S);
    fade.gain.setValueAtTime(1, Math.max(now + lead + FADE_S, now + lead + rest - FADE_S));
    fade.gain.linearRampToValueAtTime(0, Math.max(now + lead + 2 * FADE_S, now + lead + rest));
    source.start(now + lead, into, heard_s);
    source.onended = () => {
      if (this.#source === source) this.#finish();
    };
    this.#source = source;
    this.#fade = fade;
    this.#startedAt = now;
    this.#rate = this.speed;
  }

  /** Let the loudness follow an activation. @param {AudioNode} from @param {Sound} sound @param {number} now @param {number} rate */
  #follow(from, sound, now, rate) {
    const { values, start_s, end_s } = /** @type {NonNullable<Sound["loudness"]>} */ (sound.loudness);
    const gain = new GainNode(this.context, { gain: values[0] ?? 1 });
    const step = (end_s - start_s) / Math.max(1, values.length);
    values.forEach((value, i) => {
      const at = now + (start_s + (i + 0.5) * step - sound.start_s - this.#offset) / rate;
      if (at > now) gain.gain.linearRampToValueAtTime(value, at);
    });
    from.connect(gain);
    return gain;
  }

  #finish() {
    this.#source = null;
    this.#offset = 0;
    this.#become("stopped");
  }

  #silence() {
    const [source, fade] = [this.#source, this.#fade];
    this.#source = null;
    if (!source || !fade) return;
    const now = this.context.currentTime;
    fade.gain.cancelScheduledValues(now);
    fade.gain.setTargetAtTime(0, now, FADE_S / 3);
    source.stop(now + 3 * FADE_S);
  }

  pause() {
    if (this.status === "loading") return this.stop();
    if (this.status !== "playing" || !this.sound) return;
    this.#offset = this.position() - this.sound.start_s;
    this.#silence();
    this.#become("paused");
  }

  stop() {
    this.#turn++;
    this.#silence();
    this.#offset = 0;
    this.#become("stopped");
  }

  /** Play, pause, or go on. @param {Sound} sound */
  toggle(sound) {
    if (this.sound?.key === sound.key) {
      if (this.status === "playing" || this.status === "loading") return this.pause();
      if (this.status === "paused") return void this.play(sound, sound.start_s + this.#offset);
    }
    void this.play(sound);
  }

  /** @returns {number} playback speed; slower is also lower, like tape */
  get speed() {
    const speed = Number(preference("speed", 1));
    return speed > 0 ? speed : 1;
  }
}

export const transport = new Transport();

/** @returns {Transport} the player; the component is drawn again when it starts or stops */
export function useTransport() {
  const [, again] = useState(0);
  useEffect(() => {
    const update = () => again((n) => n + 1);
    transport.addEventListener("change", update);
    return () => transport.removeEventListener("change", update);
  }, []);
  return transport;
}

/**
 * Call back with the position whenever playing starts or stops, and on every frame as long as `draw` returns true.
 * @param {(position_s: number, key: string | null) => boolean} draw
 * @returns {() => void} stop
 */
export function followPosition(draw) {
  let frame = 0;
  const tick = () => {
    const follow = draw(transport.position(), transport.sound?.key ?? null);
    frame = follow && transport.status === "playing" ? requestAnimationFrame(tick) : 0;
  };
  const update = () => {
    cancelAnimationFrame(frame);
    tick();
  };
  transport.addEventListener("change", update);
  update();
  return () => {
    cancelAnimationFrame(frame);
    transport.removeEventListener("change", update);
  };
}
