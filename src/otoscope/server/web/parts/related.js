// Features that go with one: near directions, partners in time, and the same one in other atlases.
import { html } from "../lib/dom.js";
import { useJson } from "../lib/api.js";
import { decimal, featureAddress, featureHref, percent } from "../lib/format.js";
import { Chip, Problem } from "./feature-bits.js";

/** @param {{ feature: FeatureName, concealed: boolean, withAtlas?: boolean, children?: unknown }} props */
function Line({ feature, concealed, withAtlas = false, children }) {
  const { atlas, unit, label, label_kind } = feature;
  return html`<li><a href=${featureHref(feature)}><span class="address">${withAtlas ? `${atlas}:` : ""}<b>${unit}</b></span>
    ${concealed ? null : html`<${Chip} label=${label} kind=${label_kind} />`}</a><span class="quiet detail">${children}</span></li>`;
}

/** @param {{ info: FeatureInfo, concealed: boolean }} props */
export function Relatives({ info, concealed }) {
  const { neighbours, cofiring, row, kind } = info;
  const same = kind === "neurons" ? "Correlated units" : "Nearest directions";
  return html`${
    neighbours.length > 0 &&
    html`<section class="panel"><h2>${same} <small>${kind === "neurons" ? "correlation" : "cosine"}</small></h2>
    <ol class="relatives">${neighbours.map(({ feature, value }) => html`<${Line} key=${feature.index} feature=${feature} concealed=${concealed}>${decimal(value)}<//>`)}</ol></section>`
  }
  ${
    cofiring.length > 0 &&
    html`<section class="panel"><h2>Fires together with <small>share of its frames</small></h2>
    <ol class="relatives">${cofiring.map(({ feature, value, share }) => html`<${Line} key=${feature.index} feature=${feature} concealed=${concealed}><span title=${`normalised mutual information ${decimal(value)}: 0 is chance, 1 always together`}>${percent(share ?? 0)}</span><//>`)}</ol></section>`
  }
  <${Elsewhere} key=${featureAddress(row)} row=${row} concealed=${concealed} />`;
}

/** @param {{ row: FeatureRow, concealed: boolean }} props */
function Elsewhere({ row, concealed }) {
  const overview = /** @type {Overview | null} */ (useJson("/api/workspace").data);
  const several = (overview?.atlases.length ?? 0) > 1 && !row.dead;
  const url = `/api/atlases/${encodeURIComponent(row.atlas)}/features/${row.index}/matches`;
  const { data, error } = useJson(several ? url : null);
  const found = /** @type {MatchInfo[] | null} */ (data);
  if (!several || found?.length === 0) return null;
  return html`<section class="panel"><h2>In other atlases <small>correlation over common clips</small></h2>
    <${Problem} error=${error} />
    ${!found && !error && html`<p class="quiet" role="status">Comparing…</p>`}
    <ol class="relatives">${(found ?? []).map(
      ({ feature, correlation, iou, cosine, mutual }) => html`<${Line} key=${featureAddress(feature)} feature=${feature} concealed=${concealed} withAtlas>
        <span title=${`they share ${percent(iou)} of their active frames${cosine === null ? "" : `; cosine of directions ${decimal(cosine)}`}`}>${decimal(correlation)}${mutual ? html` <span title="each is the other's best match">⇄</span>` : ""}</span><//>`,
    )}</ol></section>`;
}
