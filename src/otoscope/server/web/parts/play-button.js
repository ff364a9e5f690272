// The button that plays one sound, and shows whether it is playing.
import { html } from "../lib/dom.js";
import { useTransport } from "../lib/transport.js";
import { Icon } from "./icons.js";

/** @param {{ sound: import("../lib/transport.js").Sound, label?: string }} props */
export function PlayButton({ sound, label = "" }) {
  const player = useTransport();
  const mine = player.sound?.key === sound.key && (player.status === "playing" || player.status === "loading");
  const said = `${mine ? "Pause" : "Play"} ${label || sound.title || sound.clip.id}`;
  return html`<button class=${`play ${mine ? "on" : ""}`} aria-label=${said} title=${said} onClick=${() => player.toggle(sound)}>
    <${Icon} name=${mine ? "pause" : "play"} size=${16} /></button>`;
}
