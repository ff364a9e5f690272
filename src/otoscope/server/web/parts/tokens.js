// A transcript as tokens, shaded by how sure the model was.
import { html } from "../lib/dom.js";
import { percent } from "../lib/format.js";

/** @param {{ tokens: TokenInfo[] }} props */
export function Tokens({ tokens }) {
  if (!tokens.length) return html`<p class="transcript empty">(nothing: no speech heard)</p>`;
  return html`<p class="transcript">${tokens.map(({ text, log_prob }, i) => {
    const doubt = Math.min(1, -log_prob / 2);
    return html`${i > 0 && text.startsWith(" ") && " "}<span class="token" style=${{ "--doubt": doubt.toFixed(2) }} title=${`p = ${percent(Math.exp(log_prob))}, log p = ${log_prob.toFixed(3)}`}>${text.trimStart()}</span>`;
  })}</p>`;
}
