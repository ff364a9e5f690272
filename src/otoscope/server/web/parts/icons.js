// Small pictures drawn with lines, in the colour of the text around them.
import { html } from "../lib/dom.js";

const PATHS = {
  play: html`<path d="M5 3.2v13.6L16.5 10z" fill="currentColor" />`,
  pause: html`<path d="M5 3.5h3.6v13H5zM11.4 3.5H15v13h-3.6z" fill="currentColor" />`,
  star: html`<path d="m10 2.6 2.3 4.8 5.2.7-3.8 3.6.9 5.2-4.6-2.5-4.6 2.5.9-5.2L2.5 8.1l5.2-.7z" />`,
  starred: html`<path d="m10 2.6 2.3 4.8 5.2.7-3.8 3.6.9 5.2-4.6-2.5-4.6 2.5.9-5.2L2.5 8.1l5.2-.7z" fill="currentColor" />`,
  link: html`<path d="M8.5 11.5a3.2 3.2 0 0 0 4.6 0l2.6-2.6a3.25 3.25 0 0 0-4.6-4.6L10 5.4M11.5 8.5a3.2 3.2 0 0 0-4.6 0l-2.6 2.6a3.25 3.25 0 0 0 4.6 4.6l1.1-1.1" />`,
  dice: html`<rect x="3.5" y="3.5" width="13" height="13" rx="3" /><circle cx="7.2" cy="7.2" r="1" fill="currentColor" /><circle cx="12.8" cy="12.8" r="1" fill="currentColor" /><circle cx="10" cy="10" r="1" fill="currentColor" />`,
  pen: html`<path d="M12.5 4.5 15.5 7.5 7 16H4v-3z" />`,
  edit: html`<path d="M3 6h6m4 0h4M3 14h2m4 0h8" /><circle cx="11" cy="6" r="2" /><circle cx="7" cy="14" r="2" />`,
  left: html`<path d="m12 4.5-5.5 5.5 5.5 5.5" />`,
  right: html`<path d="m8 4.5 5.5 5.5-5.5 5.5" />`,
  mic: html`<rect x="7.4" y="2.5" width="5.2" height="9.5" rx="2.6" /><path d="M4.5 9.5a5.5 5.5 0 0 0 11 0M10 15v2.5" />`,
  file: html`<path d="M10 13.5V4m0 0L6.5 7.5M10 4l3.5 3.5M3.5 13v2.5a1.5 1.5 0 0 0 1.5 1.5h10a1.5 1.5 0 0 0 1.5-1.5V13" />`,
  down: html`<path d="M10 3.5V13m0 0 3.5-3.5M10 13 6.5 9.5M3.5 13.5v2A1.5 1.5 0 0 0 5 17h10a1.5 1.5 0 0 0 1.5-1.5v-2" />`,
  table: html`<rect x="3" y="4" width="14" height="12" rx="1.5" /><path d="M3 8.2h14M3 12.2h14M8.5 4v12" />`,
  open: html`<path d="M8 4.5H4.5v11h11V12M11.5 3.5h5v5M16 4l-7 7" />`,
  plus: html`<path d="M10 4v12M4 10h12" />`,
  minus: html`<path d="M4 10h12" />`,
  close: html`<path d="m5 5 10 10M15 5 5 15" />`,
  ear: html`<path d="M5.5 8.5a4.7 4.7 0 1 1 8.2 3.1c-1 1-1.6 1.6-1.6 2.8a2.3 2.3 0 0 1-4.3 1.1M8 8.6a2.2 2.2 0 1 1 3.4 1.9" />`,
};

/** @typedef {keyof typeof PATHS} IconName */

/** @param {{ name: IconName, size?: number }} props */
export function Icon({ name, size = 18 }) {
  return html`<svg class="icon-picture" viewBox="0 0 20 20" width=${size} height=${size} aria-hidden="true"
    fill="none" stroke="currentColor" stroke-width="1.5" stroke-linecap="round" stroke-linejoin="round">${PATHS[name]}</svg>`;
}
