// What was said of a feature in words, rung by rung, and how each did on moments of other voices.
import { html } from "../lib/dom.js";

/** @type {Record<Rung["method"], string>} */
const TITLES = { label: "By its label", sound: "By its sound", "language model": "By a language model" };
/** @type {Record<Rung["verdict"], string>} */
const BADGES = { supported: "good", "not supported": "bad", "not tried": "" };

/** @param {string} moment in UTC, as the API says it */
const dateText = (moment) => `${moment.slice(0, 10)} ${moment.slice(11, 16)} UTC`;

/** @param {{ rungs: Rung[], note: string }} props */
export function Rungs({ rungs, note }) {
  return html`${note && html`<p class="quiet">Not interpreted: ${note}.</p>`}
    <ol class="rungs">${rungs.map((rung) => html`<${RungItem} key=${rung.rung} rung=${rung} />`)}</ol>`;
}

/** @param {{ rung: Rung }} props */
function RungItem({ rung }) {
  const { method, name, explanation, verdict, why, trial, model, endpoint, asked_at } = rung;
  if (!explanation) return html`<li class="quiet"><h3>${TITLES[method]}</h3><p class="said">Nothing: ${why || "no answer"}.</p></li>`;
  return html`<li class=${verdict === "not supported" ? "doubtful" : ""}>
    <h3>${TITLES[method]} <span class=${`badge ${BADGES[verdict]}`}>${verdict}</span></h3>
    <p class="said">${method === "language model" && name ? html`<b>${name}.</b> ${explanation}` : explanation}</p>
    ${(model || trial) && html`<p class="quiet small">${model && html`Said by <b>${model}</b>${endpoint && ` at ${endpoint}`}${asked_at && `, ${dateText(asked_at)}`}. `}${trial}</p>`}
    ${why && html`<p class=${verdict === "not supported" ? "warning small" : "quiet small"}>${verdict === "not supported" ? "Do not rely on it" : "Not tried"}: ${why}.</p>`}
  </li>`;
}
