// One feature: what it detects, how sure that is, where it fires, how it sounds.
import { html, useEffect, useMemo, useState } from "../lib/dom.js";
import { getJson, useLoaded } from "../lib/api.js";
import { clock, decimal, percent, strength } from "../lib/format.js";
import { unitOf } from "../lib/names.js";
import { address, setParams } from "../lib/place.js";
import { Rows } from "../lib/rows.js";
import { transport } from "../lib/transport.js";
import { Chip, F1Bar, Problem } from "../parts/feature-bits.js";
import { Histogram } from "../parts/histogram.js";
import { Icon } from "../parts/icons.js";
import { Rungs } from "../parts/interpretation.js";
import { PlayButton } from "../parts/play-button.js";
import { Strip, StripTable } from "../parts/strip.js";

const SHOWN_S = 2;
/** @type {Record<string, string>} */
const TITLES = { top: "Strongest", decile: "Whole range", random: "Random", near_miss: "Near misses" };

/** @typedef {import("../lib/api.js").Site} Site */
/**
 * @typedef {object} Moment
 * @property {number} clip @property {number} window @property {string} id @property {string} title
 * @property {string} speaker @property {number | null} credit @property {number} time_s @property {number} seconds
 * @property {number} value @property {number | null} decile @property {string} lane @property {number} lane_s
 * @property {Record<string, [number, number, string][]>} tiers
 */
/**
 * @typedef {object} Page
 * @property {number} feature @property {string} unit @property {string} sentence
 * @property {string | null} label @property {string | null} kind
 * @property {number | null} f1 @property {number | null} f1_low @property {number | null} f1_high
 * @property {number} density @property {number} max @property {number | null} mean
 * @property {(LabelScore & { q_value: number | null })[]} labels
 * @property {Record<string, [number, string | null, string | null, number][]>} relatives
 * @property {{ top: number, counts: number[] }} histogram
 * @property {{ rungs: Rung[], note: string } | null} interpretation
 * @property {Record<string, Moment[]>} examples
 */

/** @param {Site} site @param {number} feature @returns {Promise<Page>} */
async function pageOf(site, feature) {
  const file = Math.floor(feature / site.pages);
  const folder = String(Math.floor(file / 1000)).padStart(3, "0");
  const missing = new Error(`Feature ${feature} is not among the ${site.n_features} features that were exported.`);
  const found = await getJson(`data/features/${folder}/${String(file).padStart(5, "0")}.json`).catch(() => null);
  if (!found?.[feature]) throw missing;
  return found[feature];
}

/** @param {{ site: Site, feature: number, params: URLSearchParams }} props */
export function FeaturePage({ site, feature, params }) {
  const { data: page, error } = useLoaded(() => pageOf(site, feature), [feature]);
  useEffect(() => () => transport.stop(), [feature]);
  useEffect(() => scrollTo(0, 0), [feature]);
  if (error)
    return html`<main id="content" class="page narrow" tabindex="-1"><h1>Feature ${feature}</h1><${Problem} error=${error} /><p><a href="#/">All features</a></p></main>`;
  if (page?.feature !== feature) return html`<main id="content" class="page"><p class="quiet" role="status">Loading feature ${feature}…</p></main>`;
  const { counts, top } = page.histogram;
  const histogram = { counts, edges: counts.map((_, i) => (i * top) / counts.length).concat(top) };
  return html`<main id="content" class="page feature" tabindex="-1">
    <${Head} site=${site} page=${page} />
    <div class="columns">
      <aside>
        <${Detects} page=${page} />
        ${page.interpretation && html`<section class="panel"><h2>Interpretation</h2><${Rungs} ...${page.interpretation} /></section>`}
        <section class="panel"><h2>Activations</h2><${Histogram} histogram=${histogram} label=${page.label} />
          <dl class="facts">
            <div><dt>fires in</dt><dd>${percent(page.density)} of frames</dd></div>
            <div><dt>highest</dt><dd>${strength(page.max)}</dd></div>
            ${page.mean !== null && html`<div><dt>mean when active</dt><dd>${strength(page.mean)}</dd></div>`}
          </dl></section>
        <${Relatives} site=${site} page=${page} />
      </aside>
      <${Examples} key=${feature} site=${site} page=${page} asked=${params.get("show") ?? "top"} />
    </div>
  </main>`;
}

/** @param {{ site: Site, page: Page }} props */
function Head({ site, page }) {
  const random = async () => {
    const [row] = await new Rows(site).at([Math.floor(Math.random() * site.n_features)]);
    if (row) location.hash = address(`/feature/${row.feature}`);
  };
  return html`<header class="feature-head">
    <div class="title">
      <h1><${Chip} label=${page.label} kind=${page.kind} large /> <span class="address">${site.name}:<b>${unitOf(site, page.feature)}</b></span></h1>
      ${page.sentence && html`<p class="sentence">${page.sentence}</p>`}
      ${page.label !== null && html`<p class="sure"><${F1Bar} score=${page} /> <span class="quiet">${decimal(page.f1_low)} – ${decimal(page.f1_high)} on held-out voices</span></p>`}
    </div>
    <div class="tools">
      <a class="button quiet-button" href="#/">All features</a>
      <button class="icon" onClick=${() => void random()} title="A random feature" aria-label="A random feature"><${Icon} name="dice" /></button>
    </div>
  </header>`;
}

/** @param {{ page: Page }} props */
function Detects({ page: { labels } }) {
  return html`<section class="panel"><h2>Detects</h2>
    ${
      labels.length
        ? html`<ol class="scores">${labels.map(
            (score) => html`<li><a href=${address("/", { q: score.kind === "phone" ? `/${score.label}/` : score.label })}><${Chip} label=${score.label} kind=${score.kind} /></a>
              <${F1Bar} score=${score} chance=${score.chance} />
              <span class="quiet detail" title="precision, recall">${Math.round((score.precision ?? 0) * 100)} / ${Math.round((score.recall ?? 0) * 100)} %</span></li>`,
          )}</ol>
          <p class="legend quiet">F1 with 95 % interval; the red tick is chance (labels moved in time). Right: precision / recall.</p>`
        : html`<p class="quiet">No sound it was scored for is detected better than by always firing.</p>`
    }</section>`;
}

/** Features that write alike or fire together. @param {{ site: Site, page: Page }} props */
function Relatives({ site, page: { relatives } }) {
  const groups = [
    { title: "Write alike", figure: "cosine", rows: relatives.alike },
    { title: "Fire together", figure: "share of its frames", rows: relatives.together },
  ].filter(({ rows }) => rows.length);
  if (!groups.length) return null;
  return html`<section class="panel relatives">${groups.map(
    ({ title, figure, rows }) => html`<h2>${title} <small>${figure}</small></h2>
      <ul>${rows.map(
        ([feature, label, kind, value]) => html`<li><a href=${address(`/feature/${feature}`)}><b>${unitOf(site, feature)}</b> <${Chip} label=${label} kind=${kind} /></a>
          <span class="quiet">${decimal(value)}</span></li>`,
      )}</ul>`,
  )}</section>`;
}

/** @param {{ site: Site, page: Page, asked: string }} props */
function Examples({ site, page, asked }) {
  const kinds = Object.keys(page.examples).filter((kind) => page.examples[kind].length);
  const shown = kinds.includes(asked) ? asked : kinds[0];
  return html`<section class="examples">
    <div class="heading"><div class="tabs" role="tablist" aria-label="Examples">${kinds.map(
      (kind) => html`<button role="tab" aria-selected=${kind === shown} onClick=${() => setParams({ show: kind === "top" ? null : kind })}>${TITLES[kind] ?? kind} <small>${page.examples[kind].length}</small></button>`,
    )}</div></div>
    <div class="grid">${(page.examples[shown] ?? []).map(
      (moment, i) => html`<${ExampleCard} key=${`${shown} ${i}`} id=${`${page.feature} ${shown} ${i}`} moment=${moment} page=${page} site=${site} />`,
    )}</div></section>`;
}

/** A moment as a clip whose times count from the start of its window. @param {Moment} moment @param {string} id @param {Page} page @param {Site} site @returns {import("../lib/api.js").Window} */
function windowOf(moment, id, page, site) {
  const data = Uint8Array.from(atob(moment.lane), (letter) => letter.charCodeAt(0));
  const lane = {
    data,
    shape: [1, data.length],
    span: /** @type {[number, number]} */ ([moment.lane_s, moment.lane_s + data.length * site.frame_s]),
    scale: [page.max],
    range: [],
  };
  return {
    id, corpus: "", version: "", title: moment.title, duration_s: moment.seconds, text: null, speaker: moment.speaker || null,
    language: null, attributes: {}, sound: `sounds/${moment.clip}/${moment.window}`, lane,
    tiers: Object.fromEntries(
      Object.entries(moment.tiers).map(([name, rows]) => [name, rows.map(([start_s, end_s, label]) => ({ start_s, end_s, label }))]),
    ),
  };
}

/** @param {{ id: string, moment: Moment, page: Page, site: Site }} props */
function ExampleCard({ id, moment, page, site }) {
  const clip = useMemo(() => windowOf(moment, id, page, site), [moment]);
  const [lane, setLane] = useState(/** @type {import("../parts/lane.js").LaneData | null} */ (null));
  const [table, setTable] = useState(false);
  const at_s = moment.time_s - moment.window * 2;
  const [start_s, end_s] = [at_s - SHOWN_S / 2, at_s + SHOWN_S / 2];
  const name = `${site.name}:${page.unit}`;
  const sound = { key: id, clip, start_s, end_s, title: `${name} in “${moment.title}”` };
  const credit = moment.credit === null ? "" : site.credits[moment.credit];
  return html`<article class="example" data-example=${moment.id}>
    <header>
      ${site.audio && html`<${PlayButton} sound=${sound} />`}
      <span class="value" title="activation at the centre">${strength(moment.value)}</span>
      ${moment.decile !== null && html`<span class="quiet">${moment.decile * 10}–${moment.decile * 10 + 10} %</span>`}
      <span class="text" title=${moment.title}>${moment.title}</span>
      <span class="quiet when">${moment.speaker} ${clock(moment.time_s)}</span>
      <button class="icon small" aria-pressed=${table} onClick=${() => setTable(!table)} title="Read as table" aria-label="Read as table"><${Icon} name="table" size=${15} /></button>
    </header>
    <${Strip} id=${id} clip=${clip} start_s=${start_s} end_s=${end_s} feature=${name} top=${page.max} at_s=${at_s} onLane=${setLane} />
    ${table && html`<${StripTable} clip=${clip} start_s=${start_s} end_s=${end_s} lane=${lane} feature=${name} />`}
    ${credit && html`<p class="quiet credit">${credit}</p>`}
  </article>`;
}
