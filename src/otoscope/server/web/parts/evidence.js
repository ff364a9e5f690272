// What a feature detects and how sure that is: a sentence, ranked classes, bands of values, acoustics, place in the clip.
import { html } from "../lib/dom.js";
import { decimal, percent, strength } from "../lib/format.js";
import { address } from "../lib/router.js";
import { Chip, F1Bar } from "./feature-bits.js";

const N_SHOWN = 10;

/** @param {{ score: LabelScore }} props */
function ScoreLink({ score }) {
  const q = score.kind === "phone" ? `/${score.label}/` : score.label;
  return html`<a href=${address("/features", { q, kind: score.kind === "phone" ? null : score.kind })}><${Chip} label=${score.label} kind=${score.kind} /></a>`;
}

/** @param {{ info: FeatureInfo }} props */
export function Detects({ info: { labels, bands, unions, row, label_share } }) {
  return html`<section class="panel"><h2>Detects</h2>
    ${
      labels.length
        ? html`<ol class="scores">${labels.slice(0, N_SHOWN).map(
            (score) => html`<li><${ScoreLink} score=${score} />
      <${F1Bar} score=${score} chance=${score.chance} />
      <span class="quiet detail" title="precision, recall">${Math.round((score.precision ?? 0) * 100)} / ${Math.round((score.recall ?? 0) * 100)} %</span>
        </li>`,
          )}</ol>
      <p class="legend quiet">F1 with 95 % interval; the red tick is chance (labels moved in time). Right: precision / recall.${label_share < 1 && ` It fires so often that ${percent(label_share)} of all frames are enough to name it.`}</p>`
        : html`<p class="quiet">${row.dead ? "It never fires." : "No sound it was scored for is detected better than by always firing."}</p>`
    }
    ${bands.length > 1 && html`<${Bands} title="By value" bands=${bands} />`}
    ${unions.length > 0 && html`<${Bands} title="Better together" bands=${unions} />`}
  </section>`;
}

/** Labels that hold in ranges of values, or together. @param {{ title: string, bands: BandScore[] }} props */
function Bands({ title, bands }) {
  return html`<h3>${title}</h3><ol class="scores bands">${bands.map(
    (band) => html`<li><span class="chips">${band.labels.map((label) => html`<${Chip} label=${label} kind=${band.kind} />`)}</span>
      <${F1Bar} score=${band} chance=${band.chance} /><span class="quiet detail" title="values of the feature">${bandText(band)}</span></li>`,
  )}</ol>`;
}

/** @param {BandScore} band */
const bandText = ({ low, high }) => (high === null ? `> ${strength(low)}` : `${strength(low)} – ${strength(high)}`);

/** @param {{ rows: Acoustic[] }} props */
export function Acoustics({ rows }) {
  const at = /** @param {number} r */ (r) => `${(50 + 50 * Math.min(1, Math.max(-1, r))).toFixed(1)}%`;
  return html`<h3>Follows</h3><table class="plain acoustics"><tbody>${rows.map(
    ({ name, correlation: r, low, high, partial }) => html`<tr><td>${name.replaceAll("_", " ")}</td>
      <td class="scale"><span class="zero" /><span class="span" style=${{ left: at(low ?? r), right: `calc(100% - ${at(high ?? r)})` }} />
        <span class="dot" style=${{ left: at(r) }} /></td>
      <td title=${low === null ? null : `95 % interval ${decimal(low)} to ${decimal(high)}${partial === null ? "" : `; given the other measures ${decimal(partial)}`}`}>r ${decimal(r)}</td></tr>`,
  )}</tbody></table>`;
}

/** In which part of their clips it fires. @param {{ counts: number[] }} props */
export function Profile({ counts }) {
  const total = counts.reduce((sum, n) => sum + n, 0);
  if (!total) return null;
  const most = Math.max(...counts);
  const [width, tall] = [300, 34];
  const step = width / counts.length;
  const said = `Share of its frames in each twentieth of the clip: ${counts.map((n) => percent(n / total)).join(", ")}`;
  return html`<h3>Where in the clip</h3><svg class="profile" viewBox=${`0 0 ${width} ${tall}`} preserveAspectRatio="none" role="img" aria-label=${said}><title>${said}</title>
    ${counts.map((n, i) => html`<rect x=${i * step} y=${tall - (n / most) * tall} width=${step - 1} height=${(n / most) * tall} />`)}</svg>
    <p class="ends quiet"><span>start</span><span>end</span></p>`;
}
