// Bring your own sound: drop a file, choose one, or record.
import { html, useEffect, useRef, useState } from "../lib/dom.js";
import { upload } from "../lib/api.js";
import { transport } from "../lib/transport.js";
import { Problem } from "./feature-bits.js";
import { Icon } from "./icons.js";

const MAX_RECORDING_S = 60;

/** @param {{ onClip: (clip: ClipInfo) => void, hint?: string }} props */
export function AudioInput({ onClip, hint = "Drop a recording here" }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState(/** @type {Error | null} */ (null));
  const [over, setOver] = useState(false);
  /** @param {Blob} blob @param {string} name */
  const send = async (blob, name) => {
    setBusy(true);
    setError(null);
    try {
      onClip(await upload(blob, name));
    } catch (problem) {
      setError(/** @type {Error} */ (problem));
    } finally {
      setBusy(false);
    }
  };
  /** @param {DragEvent} event */
  const drop = (event) => {
    event.preventDefault();
    setOver(false);
    const file = event.dataTransfer?.files[0];
    if (file) void send(file, file.name);
  };
  /** @param {Event} event */
  const choose = (event) => {
    const field = /** @type {HTMLInputElement} */ (event.target);
    const file = field.files?.[0];
    if (file) void send(file, file.name);
    field.value = "";
  };
  return html`<div class=${`audio-input ${over ? "over" : ""}`} onDrop=${drop}
      onDragOver=${
        /** @param {DragEvent} e */ (e) => {
          e.preventDefault();
          setOver(true);
        }
      } onDragLeave=${() => setOver(false)}>
    <p class="hint">${busy ? "Listening…" : hint}</p>
    <div class="choices">
      <label class="button"><${Icon} name="file" /> Choose a file
        <input type="file" class="sr" accept="audio/*,video/webm,video/mp4" onChange=${choose} disabled=${busy} /></label>
      <${Recorder} onBlob=${send} onError=${setError} disabled=${busy} />
    </div>
    <${Problem} error=${error} />
  </div>`;
}

/** @param {{ onBlob: (blob: Blob, name: string) => void, onError: (error: Error | null) => void, disabled: boolean }} props */
function Recorder({ onBlob, onError, disabled }) {
  const recorder = useRef(/** @type {MediaRecorder | null} */ (null));
  const [seconds, setSeconds] = useState(/** @type {number | null} */ (null));
  useEffect(() => () => recorder.current?.stream.getTracks().forEach((track) => track.stop()), []);
  useEffect(() => {
    if (seconds === null) return;
    if (seconds >= MAX_RECORDING_S) return recorder.current?.stop();
    const timer = setTimeout(() => setSeconds(seconds + 1), 1000);
    return () => clearTimeout(timer);
  }, [seconds]);
  const start = async () => {
    onError(null);
    transport.stop();
    try {
      if (!navigator.mediaDevices?.getUserMedia)
        throw new Error("This browser records only on https or localhost pages; choose a file instead.");
      const stream = await navigator.mediaDevices.getUserMedia({
        audio: { echoCancellation: false, noiseSuppression: false },
      });
      const made = new MediaRecorder(stream);
      /** @type {Blob[]} */ const parts = [];
      made.ondataavailable = (event) => parts.push(event.data);
      made.onstop = () => {
        stream.getTracks().forEach((track) => track.stop());
        recorder.current = null;
        setSeconds(null);
        const type = made.mimeType || "audio/webm";
        onBlob(
          new Blob(parts, { type }),
          `recording.${type.includes("mp4") ? "m4a" : type.includes("ogg") ? "ogg" : "webm"}`,
        );
      };
      made.start();
      recorder.current = made;
      setSeconds(0);
    } catch (problem) {
      const refused = problem instanceof DOMException && problem.name === "NotAllowedError";
      const missing = problem instanceof DOMException && problem.name === "NotFoundError";
      const sentence = refused
        ? "The browser was not allowed to use the microphone; allow it for this page, or choose a file."
        : missing
          ? "No microphone was found; choose a file instead."
          : /** @type {Error} */ (problem).message;
      onError(new Error(sentence));
    }
  };
  if (seconds !== null)
    return html`<button class="recording" onClick=${() => recorder.current?.stop()}><span class="dot" /> Stop, ${seconds} s</button>`;
  return html`<button onClick=${start} disabled=${disabled}><${Icon} name="mic" /> Record</button>`;
}
