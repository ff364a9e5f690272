// Moments by features: "12 and not 88" as a sentence of feature numbers, answered with moments to hear.
import { html, useEffect, useRef } from "../lib/dom.js";
import { useJson } from "../lib/api.js";
import { address, setParams, usePlace } from "../lib/router.js";
import { MomentList } from "../parts/moments.js";
import { ofAtlases } from "../parts/region.js";

const LONGEST = 200;

export function MomentsPage() {
  const { params } = usePlace();
  const overview = /** @type {Overview | null} */ (useJson("/api/workspace").data);
  const atlas = ofAtlases(overview, params.get("atlas"));
  const q = params.get("q") ?? "";
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  useEffect(() => {
    if (field.current && field.current.value !== q) field.current.value = q;
  }, [q]);
  const submit = /** @param {SubmitEvent} event */ (event) => {
    event.preventDefault();
    setParams({ q: field.current?.value.trim() ?? "" }, { replace: false });
  };
  const first = /^[\s(]*(\d+)/.exec(q)?.[1];
  return html`<main class="page moments">
    <header><h1>Moments by features</h1>
      <p class="quiet">Feature numbers with <code>and</code>, <code>or</code>, <code>not</code>, parentheses and thresholds: where does one fire and another not?</p></header>
    <form class="filters" role="search" aria-label="Moments" onSubmit=${submit}>
      <label class="field wide"><span class="sr">Combination of features</span>
        <input ref=${field} type="search" data-search defaultValue=${q} maxlength=${LONGEST} placeholder="12 and not 88, or (12 > 0.5 or 7) and not 88" autocomplete="off" spellcheck="false" />
          </label>
      <label class="field"><span>Atlas</span><select value=${atlas} onChange=${/** @param {any} e */ (e) => setParams({ atlas: e.target.value }, { replace: false })}>
        ${(overview?.atlases ?? []).map(({ name, site }) => html`<option value=${name} selected=${name === atlas}>${name} · ${site}</option>`)}</select></label>
      <button class="primary">Search</button>
    </form>
    ${overview && !overview.atlases.length && html`<p class="nothing">This workspace has no atlas yet; <code>otoscope demo</code> or <code>otoscope atlas</code> makes one.</p>`}
    ${
      q && atlas
        ? html`<${MomentList} url=${address(`/api/atlases/${encodeURIComponent(atlas)}/moments`, { q })} id="where" feature=${first ? `${atlas}:${first}` : undefined}
          nothing="No frame answers this." />`
        : html`<p class="quiet">You find the number of a feature beside its name: <a class="link" href="/features">look through the features</a>, or <a class="link" href="/sound">search by sound</a>.</p>`
    }
  </main>`;
}
