// The table of features: search by name or number, filters, orders; only the rows on screen exist.
import { html, useEffect, useMemo, useRef, useState } from "../lib/dom.js";
import { getJson, useLoaded } from "../lib/api.js";
import { count, decimal, percent, strength } from "../lib/format.js";
import { classesByNumber, classesNamed, unitOf } from "../lib/names.js";
import { address, setParams } from "../lib/place.js";
import { Rows } from "../lib/rows.js";
import { Chip, F1Bar, Problem } from "../parts/feature-bits.js";

const ROW_PX = 40;
const MOST_CLASSES = 12;
const MOST_ROWS = 750_000;

/** Column: order or "", title, class, explanation. */
const COLUMNS = [
  ["feature", "Feature", "c-feature", "number within the atlas"],
  ["label", "Detects", "c-label", "the sound it detects best, on held-out voices"],
  ["f1", "F1", "c-f1", "F1 of detecting that sound, with its 95 % interval"],
  ["density", "Density", "c-density", "share of all frames in which it fires"],
  ["max", "Max", "c-max", "highest activation"],
];

/** @typedef {import("../lib/rows.js").Row} Row */
/** @typedef {{ total: number, rows: (first: number, last: number) => Promise<Row[]>, note?: string }} Found */

/** @type {Rows | null} */
let kept = null;

/** @param {{ site: import("../lib/api.js").Site, params: URLSearchParams }} props */
export function TablePage({ site, params }) {
  const [share, setShare] = useState(1);
  const query = Object.fromEntries(["q", "kind", "min_f1", "max_density", "sort", "order"].map((n) => [n, params.get(n) ?? ""]));
  const key = JSON.stringify(query);
  const rows = (kept ??= new Rows(site));
  const { data, error } = useLoaded(() => find(site, rows, query, setShare), [key]);
  return html`<main id="content" class="page features" tabindex="-1">
    <div class="intro"><h1>${count(site.n_features)} features of ${site.model}, ${site.site}</h1>
      <p class="quiet">${site.dictionary.name} over ${site.corpus}. Best first; search by sound or number, then listen.</p></div>
    <${Filters} site=${site} query=${query} />
    <${Table} key=${key} site=${site} found=${data} share=${share} query=${query} />
    <${Problem} error=${error} />
  </main>`;
}

/**
 * @param {import("../lib/api.js").Site} site @param {Rows} rows
 * @param {Record<string, string>} query @param {(share: number) => void} progress
 * @returns {Promise<Found>}
 */
async function find(site, rows, query, progress) {
  const sort = query.sort || "f1";
  const sign = (query.order || (sort === "feature" || sort === "label" ? "asc" : "desc")) === "asc" ? 1 : -1;
  const classes = classesByNumber(site);
  const fits = /** @param {{ label: number, f1: number, density: number }} row */ (row) =>
    (!query.kind || classes.get(row.label)?.kind === query.kind) &&
    (!query.min_f1 || row.f1 >= Number(query.min_f1)) &&
    (!query.max_density || row.density <= Number(query.max_density));
  const name = /** @param {number} number */ (number) => classes.get(number)?.label ?? "\uffff";
  const compare = /** @param {Row} a @param {Row} b */ (a, b) =>
    sort === "label"
      ? sign * name(a.label).localeCompare(name(b.label))
      : sign * (numberOf(a, sort) - numberOf(b, sort)) || a.feature - b.feature;
  if (query.q && !/^\d+$/.test(query.q)) {
    const named = classesNamed(site, query.q).sort((a, b) => b.n_features - a.n_features).slice(0, MOST_CLASSES);
    const found = (await Promise.all(named.map(featuresOf))).flat().filter(fits).sort(compare);
    const note = named.map(({ label, n_features }) => `${label} (${n_features})`).join(", ");
    return { total: found.length, rows: async (first, last) => found.slice(first, last), note };
  }
  const plain = sort === "f1" && sign < 0 && !query.kind && !query.min_f1 && !query.max_density && !query.q;
  if (plain) return { total: site.n_features, rows: (first, last) => rows.at(range(first, Math.min(last, site.n_features))) };
  const columns = await rows.columns(progress);
  const wanted = query.q ? Number(query.q) : -1;
  const { label, f1, density } = columns;
  const units = site.n_units;
  const places = range(0, site.n_features).filter((i) => {
    const feature = columns.feature[i];
    return (wanted < 0 || feature === wanted || (units !== null && feature % units === wanted)) && fits({ label: label[i], f1: f1[i], density: density[i] });
  });
  if (sort === "label") {
    const ranks = new Map([...site.classes].sort((a, b) => a.label.localeCompare(b.label)).map(({ number }, i) => [number, i]));
    const rank = /** @param {number} i */ (i) => ranks.get(columns.label[i]) ?? Infinity;
    places.sort((a, b) => (rank(a) === rank(b) ? a - b : sign * (rank(a) < rank(b) ? -1 : 1)));
  } else if (sort !== "f1" || sign > 0) {
    const value = /** @param {number} i */ (i) => (Number.isNaN(columns[sort][i]) ? -Infinity : columns[sort][i]);
    places.sort((a, b) => (value(a) === value(b) ? a - b : sign * (value(a) < value(b) ? -1 : 1)));
  }
  return { total: places.length, rows: (first, last) => rows.at(places.slice(first, last)) };
}

/** @param {Row} row @param {string} name */
function numberOf(row, name) {
  const value = /** @type {any} */ (row)[name];
  return typeof value === "number" && !Number.isNaN(value) ? value : -1;
}

/** @param {{ number: number }} named @returns {Promise<Row[]>} */
async function featuresOf({ number }) {
  const listed = await getJson(`data/labels/${number}.json`);
  return listed.map((/** @type {number[]} */ [feature, f1, f1_low, f1_high, density, max]) => ({
    feature, label: number, f1, f1_low, f1_high, density, max,
  }));
}

/** @param {number} first @param {number} last */
const range = (first, last) => Array.from({ length: Math.max(0, last - first) }, (_, i) => first + i);

/** @param {{ site: import("../lib/api.js").Site, query: Record<string, string> }} props */
function Filters({ site, query }) {
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  const timer = useRef(0);
  useEffect(() => {
    if (field.current && document.activeElement !== field.current) field.current.value = query.q;
  }, [query.q]);
  const search = () => {
    clearTimeout(timer.current);
    setParams({ q: field.current?.value.trim() || null });
  };
  const kinds = useMemo(() => [...new Set(site.classes.map(({ kind }) => kind))], [site]);
  const strongest = useMemo(
    () => [...site.classes].sort((a, b) => (b.best_f1 ?? 0) - (a.best_f1 ?? 0)).slice(0, 14),
    [site],
  );
  /** @param {string} name */
  const choose = (name) => /** @param {any} event */ (event) => setParams({ [name]: event.target.value || null });
  return html`<form class="filters" role="search" onSubmit=${/** @param {SubmitEvent} e */ (e) => {
    e.preventDefault();
    search();
  }}>
    <label class="field wide"><span class="sr">Search features</span>
      <input ref=${field} type="search" defaultValue=${query.q} placeholder="m, /ʃ/, seven, bird, 30" autocomplete="off"
        onInput=${() => {
          clearTimeout(timer.current);
          timer.current = setTimeout(search, 250);
        }} /></label>
    <label class="field"><span>Names</span><select onChange=${choose("kind")}>
      <option value="">all</option>${kinds.map((kind) => html`<option value=${kind} selected=${kind === query.kind}>${kind.replaceAll("_", " ")}</option>`)}</select></label>
    <label class="field"><span>F1 ≥ ${decimal(Number(query.min_f1 || 0), 1)}</span>
      <input type="range" min="0" max="0.9" step="0.1" value=${query.min_f1 || 0} onInput=${/** @param {any} e */ (e) => setParams({ min_f1: Number(e.target.value) || null })} /></label>
    <label class="field"><span>Density ≤</span><select onChange=${choose("max_density")}>
      <option value="">any</option>${["0.1", "0.01", "0.001"].map((value) => html`<option value=${value} selected=${value === query.max_density}>${percent(Number(value))}</option>`)}</select></label>
    ${strongest.length > 0 && html`<p class="names"><span class="sr">Well detected:</span>${strongest.map(({ label, kind }) => html`<a href=${address("/", { q: kind === "phone" ? `/${label}/` : label })}><${Chip} label=${label} kind=${kind} /></a>`)}</p>`}
  </form>`;
}

/** @param {{ site: import("../lib/api.js").Site, found: Found | null, share: number, query: Record<string, string> }} props */
function Table({ site, found, share, query }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const [view, setView] = useState([0, 30]);
  const [shown, setShown] = useState({ first: 0, rows: /** @type {Row[]} */ ([]) });
  const [problem, setProblem] = useState(/** @type {Error | null} */ (null));
  const classes = useMemo(() => classesByNumber(site), [site]);
  const measure = () => {
    const element = box.current;
    if (!element) return;
    const first = Math.max(0, Math.floor(element.scrollTop / ROW_PX) - 6);
    const last = Math.ceil((element.scrollTop + element.clientHeight) / ROW_PX) + 6;
    setView((before) => (before[0] === first && before[1] === last ? before : [first, last]));
  };
  useEffect(() => {
    measure();
    addEventListener("resize", measure);
    return () => removeEventListener("resize", measure);
  }, [found]);
  useEffect(() => {
    let wanted = true;
    found?.rows(view[0], view[1]).then(
      (rows) => wanted && setShown({ first: view[0], rows }),
      (error) => wanted && setProblem(error),
    );
    return () => {
      wanted = false;
    };
  }, [found, view]);
  const sort = query.sort || "f1";
  const order = query.order || (sort === "feature" || sort === "label" ? "asc" : "desc");
  /** @param {string} name */
  const by = (name) => setParams({ sort: name, order: name === sort ? (order === "asc" ? "desc" : "asc") : null });
  const total = Math.min(found?.total ?? 0, MOST_ROWS);
  const said = found ? `${count(found.total)} ${found.total === 1 ? "feature" : "features"}` : `Searching… ${share < 1 ? percent(share) : ""}`;
  return html`
    <p class="count" role="status">${said}${found?.note && html` for ${found.note}`}</p>
    <${Problem} error=${problem} />
    <div class="table site-table" role="table" aria-label="Features" aria-rowcount=${total + 1}>
      <div class="head row" role="row" aria-rowindex="1">${COLUMNS.map(
        ([name, title, className, what]) => html`<span role="columnheader" class=${className} title=${what} aria-sort=${name === sort ? (order === "desc" ? "descending" : "ascending") : null}>
          <button onClick=${() => by(name)}>${title}<span class="arrow" aria-hidden="true">${name === sort ? (order === "desc" ? "▾" : "▴") : ""}</span></button></span>`,
      )}</div>
      <div class="body" role="rowgroup" ref=${box} onScroll=${measure} tabindex="0" aria-label="rows">
        <div style=${{ height: `${total * ROW_PX}px` }}>
          ${shown.rows.map((row, i) => html`<${OneRow} key=${shown.first + i} i=${shown.first + i} row=${row} site=${site} named=${classes.get(row.label)} />`)}</div>
        ${found?.total === 0 && html`<p class="nothing">Nothing matches. <a class="link" href="#/">Show all features</a></p>`}
      </div>
    </div>`;
}

/** @param {{ i: number, row: Row, site: import("../lib/api.js").Site, named: { label: string, kind: string } | undefined }} props */
function OneRow({ i, row, site, named }) {
  const place = { transform: `translateY(${i * ROW_PX}px)`, height: `${ROW_PX}px` };
  const score = { f1: Number.isNaN(row.f1) ? null : row.f1, f1_low: row.f1_low, f1_high: row.f1_high };
  return html`<div class="row" role="row" aria-rowindex=${i + 2} style=${place} data-feature=${row.feature}>
    <span role="cell" class="c-feature"><a class="cover" href=${address(`/feature/${row.feature}`)}><b>${unitOf(site, row.feature)}</b></a></span>
    <span role="cell" class="c-label"><${Chip} label=${named?.label ?? null} kind=${named?.kind ?? null} /></span>
    <span role="cell" class="c-f1"><${F1Bar} score=${score} /></span>
    <span role="cell" class="c-density">${percent(row.density)}</span>
    <span role="cell" class="c-max">${strength(row.max)}</span>
  </div>`;
}
