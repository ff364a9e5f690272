// Features: a table of any length; only the rows on screen exist.
import { html, useEffect, useMemo, useRef, useState } from "../lib/dom.js";
import { getJson, useJson } from "../lib/api.js";
import { count, decimal, featureAddress, featureHref, labelText, percent, strength } from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { address, navigate, setParams, usePlace } from "../lib/router.js";
import { Chip, F1Bar, MiniHistogram, Problem } from "../parts/feature-bits.js";
import { Icon } from "../parts/icons.js";

const ROW_PX = 40;
const PAGE = 60;
const MAX_ROWS = 750_000;

/** Column: sort name or "", title, class, explanation. */
const COLUMNS = [
  ["index", "Feature", "c-feature", "number within its atlas"],
  ["label", "Detects", "c-label", "the sound it detects best, on held-out voices"],
  ["", "In words", "c-sentence", "what the atlas says of it"],
  ["f1", "F1", "c-f1", "F1 of detecting that sound, with its 95 % interval"],
  ["ap", "AP", "c-ap", "average precision"],
  ["density", "Density", "c-density", "share of all frames in which it fires"],
  ["max", "Max", "c-max", "highest activation"],
  ["", "Activations", "c-histogram", "histogram of active frames, logarithmic"],
];

/** Statistics by the names that they have outside the table; others are called as in the API. */
const STATISTICS = /** @type {Record<string, string>} */ ({
  ...Object.fromEntries(COLUMNS.filter(([name]) => name).map(([name, title]) => [name, title])),
  ap: "average precision", auroc: "AUROC", chance: "chance", clip_share: "share of clips", dense_share: "dense share",
  f1_high: "F1, upper end", f1_low: "F1, lower end", max: "highest activation", mean: "mean", n_active: "active frames",
  label_share: "share of frames that name it", n_labels: "labels", p_value: "p", postings_from: "kept above", precision: "precision", purity: "purity",
  q_value: "q", recall: "recall", threshold: "threshold",
  q10: "10 % quantile", q25: "25 % quantile", q50: "median", q75: "75 % quantile", q90: "90 % quantile", q99: "99 % quantile",
});

/** Whether a column begins with its smallest values, unless told otherwise. @param {string} name */
const fromSmall = (name) => ["index", "label", "p_value", "q_value"].includes(name);

/** The columns; the one of average precision makes room for a statistic that the table is sorted by and has no column for. @param {string} sort */
const columnsFor = (sort) =>
  COLUMNS.some(([name]) => name === sort) ? COLUMNS : COLUMNS.map((column) => (column[0] === "ap" ? [sort, STATISTICS[sort] ?? sort, "c-ap", "what the table is sorted by"] : column));

/** @param {number | null | undefined} value */
function figure(value) {
  if (value === null || value === undefined || (value && Math.abs(value) < 1 && Math.abs(value) >= 0.005)) return decimal(value);
  return Number.isInteger(value) ? count(value) : Math.abs(value) < 1 ? value.toPrecision(2) : strength(value);
}

/** Parameters of the address that the table's query is made of. */
const QUERY = ["q", "atlas", "label", "kind", "nature", "min_f1", "min_density", "max_density", "dead", "sort", "order"];

export function FeaturesPage() {
  const { params } = usePlace();
  const overview = /** @type {Overview | null} */ (useJson("/api/workspace").data);
  const query = address("/api/features", Object.fromEntries(QUERY.map((name) => [name, params.get(name)])));
  return html`<main class="page features">
    <h1 class="sr">Features</h1>
    <${Filters} params=${params} overview=${overview} />
    ${
      overview && !overview.atlases.length
        ? html`<p class="nothing">This workspace has no atlas yet; <code>otoscope demo</code> or <code>otoscope atlas</code> makes one.</p>`
        : html`<${Table} key=${query} query=${query} params=${params} />`
    }
  </main>`;
}

/** @param {{ params: URLSearchParams, overview: Overview | null }} props */
function Filters({ params, overview }) {
  const q = params.get("q") ?? "";
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  const timer = useRef(0);
  useEffect(() => {
    if (field.current && field.current.value !== q && document.activeElement !== field.current) field.current.value = q;
  }, [q]);
  const search = () => {
    clearTimeout(timer.current);
    setParams({ q: field.current?.value.trim() ?? "" });
  };
  const later = () => {
    clearTimeout(timer.current);
    timer.current = setTimeout(search, 250);
  };
  useKeys({ r: () => void toRandom(params) }, [params]);
  const kinds = [...new Set((overview?.labels ?? []).map(({ kind }) => kind))];
  const natures = overview?.natures ?? [];
  /** @param {string} name */
  const choose = (name) => /** @param {any} event */ (event) =>
    setParams({ [name]: event.target.value }, { replace: false });
  const f1 = params.get("min_f1") ?? "0";
  const sort = params.get("sort") ?? "f1";
  const statistics = overview?.statistics ?? [];
  const title = /** @param {string} name */ (name) => STATISTICS[name] ?? name;
  const sorted = [...statistics].sort((a, b) => title(a).localeCompare(title(b)));
  const rising = params.get("order") === "asc";
  return html`<form class="filters" role="search" onSubmit=${
    /** @param {SubmitEvent} e */ (e) => {
      e.preventDefault();
      search();
    }
  }>
    <label class="field wide"><span class="sr">Search features</span>
      <input ref=${field} type="search" data-search defaultValue=${q} onInput=${later} placeholder="m, /ʃ/, nasal, seven, bird, 30, a word of a note" autocomplete="off" />
        </label>
    <label class="field"><span>Atlas</span><select onChange=${choose("atlas")} value=${params.get("atlas") ?? ""}>
      <option value="">all</option>${(overview?.atlases ?? []).map(({ name, site }) => html`<option value=${name} selected=${name === params.get("atlas")}>${name} · ${site}</option>`)}</select>
        </label>
    <label class="field"><span>Names</span><select onChange=${choose("kind")} value=${params.get("kind") ?? ""}>
      <option value="">all</option>${kinds.map((kind) => html`<option value=${kind} selected=${kind === params.get("kind")}>${kind.replace("_", " ")}</option>`)}</select>
        </label>
    ${
      natures.length > 0 &&
      html`<label class="field"><span>Nature</span><select onChange=${choose("nature")} value=${params.get("nature") ?? ""}>
      <option value="">any</option>${natures.map((nature) => html`<option value=${nature} selected=${nature === params.get("nature")}>${nature}</option>`)}</select>
        </label>`
    }
    <label class="field"><span>F1 ≥ ${decimal(Number(f1), 1)}</span>
      <input type="range" min="0" max="0.9" step="0.1" value=${f1} onInput=${/** @param {any} e */ (e) => setParams({ min_f1: Number(e.target.value) || null })} />
        </label>
    <label class="field"><span>Density ≤</span><select onChange=${choose("max_density")} value=${params.get("max_density") ?? ""}>
      <option value="">any</option>${["0.1", "0.01", "0.001"].map((value) => html`<option value=${value} selected=${value === params.get("max_density")}>${percent(Number(value))}</option>`)}</select>
        </label>
    <div class="field"><label for="sort">Sort by</label>
      <span class="sorting"><select id="sort" value=${sort} onChange=${
        /** @param {any} e */ (e) => setParams({ sort: e.target.value, order: fromSmall(e.target.value) ? "asc" : null }, { replace: false })
      }>
        ${sorted.map((name) => html`<option value=${name} selected=${name === sort}>${title(name)}</option>`)}</select>
      <button type="button" class="icon" aria-label=${rising ? "Smallest first" : "Largest first"} title=${`${rising ? "Smallest" : "Largest"} first; press for the other way round`}
        onClick=${() => setParams({ order: rising ? null : "asc" }, { replace: false })}>${rising ? "▴" : "▾"}</button></span></div>
    <label class="check">
      <input type="checkbox" checked=${params.get("dead") === "true"} onChange=${/** @param {any} e */ (e) => setParams({ dead: e.target.checked ? "true" : null })} /> dead too</label>
    <button type="button" class="quiet-button" onClick=${() => void toRandom(params)}><${Icon} name="dice" /> Random</button>
  </form>`;
}

/** Go to a random strong feature. @param {URLSearchParams} params */
async function toRandom(params) {
  const url = address("/api/features/random", {
    n: 1,
    min_f1: params.get("min_f1") ?? 0.3,
    atlas: params.get("atlas"),
    seed: Math.floor(Math.random() * 1e6),
  });
  const [row] = await getJson(url).catch(() => []);
  if (row) navigate(featureHref(row));
}

/** @param {{ query: string, params: URLSearchParams }} props */
function Table({ query, params }) {
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const { pages, total, note, facets, error, want } = usePages(query);
  const [view, setView] = useState([0, 30]);
  const measure = () => {
    const element = box.current;
    if (!element) return;
    const first = Math.max(0, Math.floor(element.scrollTop / ROW_PX) - 6);
    const last = Math.ceil((element.scrollTop + element.clientHeight) / ROW_PX) + 6;
    setView((before) => (before[0] === first && before[1] === last ? before : [first, last]));
    want(first, last);
  };
  useEffect(() => {
    measure();
    addEventListener("resize", measure);
    return () => removeEventListener("resize", measure);
  }, [total]);
  const sort = params.get("sort") ?? "f1";
  const descending = params.get("order") !== "asc";
  /** @param {string} name */
  const by = (name) =>
    setParams({
      sort: name,
      order:
        sort === name && descending
          ? "asc"
          : fromSmall(name)
            ? sort === name
              ? "desc"
              : "asc"
            : "desc",
    });
  const shown = Math.min(total ?? 0, MAX_ROWS);
  const rows = [];
  for (let i = view[0]; i < Math.min(view[1], shown); i++)
    rows.push({ i, ...pages.get(Math.floor(i / PAGE))?.[i % PAGE] });
  return html`
    <p class="count" role="status">${total === null ? "Searching…" : `${count(total)} ${total === 1 ? "feature" : "features"}`}${note && html` · ${note}`}</p>
    <${Problem} error=${error} />
    <${LabelChips} labels=${facets.label ?? []} params=${params} />
    <div class="table" role="table" aria-label="Features" aria-rowcount=${shown + 1}>
      <div class="head row" role="row" aria-rowindex="1">${columnsFor(sort).map(
        ([name, title, className, what]) => html`
        <span role="columnheader" class=${className} title=${what} aria-sort=${name === sort ? (descending ? "descending" : "ascending") : null}>
          ${name ? html`<button onClick=${() => by(name)}>${title}<span class="arrow" aria-hidden="true">${name === sort ? (descending ? "▾" : "▴") : ""}</span>
            </button>` : title}</span>`,
      )}</div>
      <div class="body" role="rowgroup" ref=${box} onScroll=${measure} tabindex="0" aria-label="rows">
        <div style=${{ height: `${shown * ROW_PX}px` }}>
          ${rows.map(({ i, row, value, told }) => html`<${Row} key=${i} i=${i} row=${row} told=${told} value=${columnsFor(sort) === COLUMNS ? row?.ap : value} />`)}</div>
        ${total === 0 && html`<p class="nothing">Nothing matches. <button class="link" onClick=${() => navigate("/features")}>Show all features</button>
          </p>`}
      </div>
    </div>`;
}

/** The labels of what was found; one press keeps only those. @param {{ labels: Facet[], params: URLSearchParams }} props */
function LabelChips({ labels, params }) {
  const [label, kind] = [params.get("label"), params.get("kind")];
  const chosen = /** @param {Facet} facet */ (facet) => facet.value === label && (!kind || facet.kind === kind);
  if (!label && labels.length < 2) return null;
  return html`<div class="facets" role="group" aria-label="Labels of these features">
    ${label && html`<button class="chip" onClick=${() => setParams({ label: null }, { replace: false })}>all labels</button>`}
    ${labels.map((facet) => html`<button key=${`${facet.kind} ${facet.value}`} class=${`chip kind-${facet.kind}`} aria-pressed=${chosen(facet)}
      onClick=${() => setParams(chosen(facet) ? { label: null } : { label: facet.value, kind: facet.kind }, { replace: false })}>
      ${labelText(facet.value, facet.kind)} <small>${count(facet.count)}</small></button>`)}
  </div>`;
}

/** A quiet mark: words of a note or an explanation found this row. @param {{ by: string[] }} props */
function Told({ by }) {
  const said = `found by ${by.join(" and ")}`;
  return html`<span class="told" role="img" aria-label=${said} title=${said}><${Icon} name="pen" size=${14} /></span>`;
}

/** @param {{ i: number, row: FeatureRow | undefined, told?: string[], value: number | null | undefined }} props */
function Row({ i, row, told = [], value }) {
  const place = { transform: `translateY(${i * ROW_PX}px)`, height: `${ROW_PX}px` };
  if (!row) return html`<div class="row placeholder" role="row" aria-rowindex=${i + 2} style=${place} />`;
  return html`<div class=${`row ${row.dead ? "dead" : ""}`} role="row" aria-rowindex=${i + 2} style=${place} data-feature=${featureAddress(row)}>
    <span role="cell" class="c-feature"><a class="cover" href=${featureHref(row)}>
      <span class="atlas">${row.atlas}</span>:<b>${row.unit}</b></a></span>
    <span role="cell" class="c-label"><${Chip} label=${row.label} kind=${row.label_kind} />${told.length > 0 && html`<${Told} by=${told} />`}</span>
    <span role="cell" class="c-sentence" title=${row.sentence}>${row.sentence}</span>
    <span role="cell" class="c-f1"><${F1Bar} score=${row} /></span>
    <span role="cell" class="c-ap">${figure(value)}</span>
    <span role="cell" class="c-density">${row.dead ? "dead" : percent(row.density)}</span>
    <span role="cell" class="c-max">${strength(row.max)}</span>
    <span role="cell" class="c-histogram"><${MiniHistogram} bars=${row.histogram} /></span>
  </div>`;
}

/**
 * Fetch the pages of a long list as they are wanted.
 * @param {string} query
 */
function usePages(query) {
  const [state, setState] = useState(() => ({
    pages: /** @type {Map<number, { row: FeatureRow, value: number | null, told: string[] }[]>} */ (new Map()),
    total: /** @type {number | null} */ (null),
    note: /** @type {string | null} */ (null),
    facets: /** @type {Record<string, Facet[]>} */ ({}),
    error: /** @type {Error | null} */ (null),
  }));
  const asked = useRef(/** @type {Set<number>} */ (new Set()));
  const want = useMemo(
    () => /** @param {number} first @param {number} last */ (first, last) => {
      for (let page = Math.floor(first / PAGE); page <= Math.floor(last / PAGE); page++) {
        if (asked.current.has(page)) continue;
        asked.current.add(page);
        const url = `${query}${query.includes("?") ? "&" : "?"}offset=${page * PAGE}&limit=${PAGE}`;
        getJson(url).then(
          (/** @type {FeaturePage} */ answer) =>
            setState((before) => ({
              pages: new Map(before.pages).set(page, answer.rows.map((row, at) => ({ row, value: answer.sorted_by[at], told: answer.found_by[at] }))),
              total: answer.total,
              note: answer.note,
              facets: answer.facets,
              error: null,
            })),
          (error) => {
            asked.current.delete(page);
            setState((before) => ({ ...before, error, total: before.total ?? 0 }));
          },
        );
      }
    },
    [query],
  );
  useEffect(() => want(0, 30), [want]);
  return { ...state, want };
}
