// The encoder as a signal chain, from sound to text; sites with an atlas are lit and lead to their features.
import { html } from "../lib/dom.js";
import { address } from "../lib/router.js";

/** Rows of a layer from the last to the first computed: the part of the site's name, and what it is called. */
const PARTS = [
  ["resid_post", "stream after"],
  ["mlp", "MLP"],
  ["resid_mid", "stream between"],
  ["attn", "attention"],
  ["resid_pre", "stream before"],
];

/** @param {{ overview: Overview }} props */
export function ModelDiagram({ overview: { model, atlases } }) {
  /** @param {(site: string) => boolean} test */
  const lit = (test) => atlases.filter((atlas) => test(atlas.site));
  const single = /** @param {string} site @param {string} name */ (
    site,
    name,
  ) => html`<li class="block single"><h3>${name}</h3>
    <${Socket} name=${name} atlases=${lit((s) => s === site)} /></li>`;
  const has = /** @param {string} site */ (site) => model.sites.includes(site);
  const writer = has("decoder.ln_post") ? "decoder" : "head";
  return html`<ol class="chain" aria-label="The model from sound to text">
    ${has("mel") ? single("mel", "mel") : html`<li class="block single"><h3>sound</h3><span class="socket">samples</span></li>`}
    <li class="block single"><h3>conv</h3><${Socket} name="conv" atlases=${lit((s) => s.startsWith("encoder.conv") || s === "encoder.embed")} /></li>
    ${Array.from(
      { length: model.n_layers },
      (_, layer) => html`<li class="block layer"><h3>${layer}</h3>
      ${PARTS.map(([part, name]) => html`<${Socket} name=${name} atlases=${lit((s) => s === `encoder.${layer}.${part}` || s.startsWith(`encoder.${layer}.${part}.`))} />`)}</li>`,
    )}
    ${has("encoder.ln_post") && single("encoder.ln_post", "norm")}
    ${has("logits") && html`<li class="block single out"><h3>${writer}</h3><span class="socket">text</span></li>`}
  </ol>`;
}

/** @param {{ name: string, atlases: AtlasSummary[] }} props */
function Socket({ name, atlases }) {
  if (!atlases.length) return html`<span class="socket">${name}</span>`;
  return atlases.map(
    (atlas) => html`<a class="socket lit" href=${address("/features", { atlas: atlas.name })}
    title=${`${atlas.name}: ${atlas.n_features} features of ${atlas.site}, ${atlas.n_labelled} named`}>
    <span>${name}</span><b>${atlas.name}</b></a>`,
  );
}
