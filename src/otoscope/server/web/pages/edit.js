// Edit: change features while the model listens, and read what it writes then.
import { html, useEffect, useRef, useState } from "../lib/dom.js";
import { getJson, postJson, useJson } from "../lib/api.js";
import { OPS, asPython, editItem, editText, firstEdit, isFeature, parseEdit } from "../lib/edits.js";
import { clipHref, clock, decimal, featureHref, strength } from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { address, setParams, usePlace, here, navigate } from "../lib/router.js";
import { transport } from "../lib/transport.js";
import { AudioInput } from "../parts/audio-input.js";
import { Chip, Problem } from "../parts/feature-bits.js";
import { Icon } from "../parts/icons.js";
import { PlayButton } from "../parts/play-button.js";
import { Strip } from "../parts/strip.js";

const MAX_VIEW_S = 30;

/** @typedef {import("../lib/edits.js").EditDraft} EditDraft */

/** Write the edits into the address. @param {EditDraft[]} edits */
function keep(edits) {
  const { path, params } = here();
  params.delete("e");
  for (const edit of edits) params.append("e", editText(edit));
  navigate(address(path, params), { replace: true });
}

export function EditPage() {
  const { params } = usePlace();
  const overview = /** @type {Overview | null} */ (useJson("/api/workspace").data);
  const wanted = params.get("clip");
  const first = /** @type {ClipPage | null} */ (useJson(wanted ? null : "/api/clips?limit=1").data)?.clips[0] ?? null;
  const { data, error } = useJson(
    wanted ? address(`/api/clips/${encodeURIComponent(wanted)}`, { corpus: params.get("corpus") }) : null,
  );
  const clip = wanted ? /** @type {ClipInfo | null} */ (data) : first;
  const edits = params
    .getAll("e")
    .map(parseEdit)
    .filter((edit) => edit !== null);
  return html`<main class="page edit"><h1 class="sr">Edit</h1>
    <${Problem} error=${error} />
    ${
      clip
        ? html`<${Bench} key=${`${clip.corpus} ${clip.id}`} clip=${clip} edits=${edits} overview=${overview} active=${Number(params.get("on") ?? 0)} />`
        : !error && html`<p class="quiet" role="status">Loading…</p>`
    }
    <section class="panel choose"><h2>Another clip</h2>
      <form class="row-form" onSubmit=${
        /** @param {SubmitEvent} e */ (e) => {
          e.preventDefault();
          navigate(address("/clips", { q: /** @type {any} */ (e.target).elements.q.value }));
        }
      }><input name="q" type="search" placeholder="a word, a speaker, a sound" aria-label="Search clips" /><button>Find a clip</button></form>
      <${AudioInput} onClip=${/** @param {ClipInfo} made */ (made) => setParams({ clip: made.id, corpus: made.corpus })} hint="or bring your own recording" />
        </section>
  </main>`;
}

/** @param {{ clip: ClipInfo, edits: EditDraft[], overview: Overview | null, active: number }} props */
function Bench({ clip, edits, overview, active }) {
  const { result, error, busy } = useEdited(clip, edits);
  const view_s = Math.min(clip.duration_s, MAX_VIEW_S);
  const current = edits[active] ?? edits[0] ?? null;
  const sound = { key: `edit ${clip.id}`, clip, start_s: 0, end_s: view_s, title: clip.title };
  /** @param {number} i @param {Partial<EditDraft>} change */
  const change = (i, change) => keep(edits.map((edit, at) => (at === i ? { ...edit, ...change } : edit)));
  useKeys({ " ": () => transport.toggle(sound), Escape: () => transport.stop() }, [clip.id]);
  useEffect(() => () => transport.stop(), [clip.id]);
  return html`
    <section class="panel outcome" aria-busy=${busy}>
      <${Outcome} result=${result} busy=${busy} />
      <${Problem} error=${error} />
    </section>
    <section class="panel edits"><div class="heading"><h2>Edits</h2>
        ${edits.length > 0 && html`<button class="quiet-button" onClick=${() => keep([])}>Remove all</button>`}</div>
      ${edits.map(
        (
          edit,
          i,
        ) => html`<${EditRow} key=${`${i} ${edit.target}`} edit=${edit} active=${edit === current && edits.length > 1} onChange=${/** @param {Partial<EditDraft>} c */ (c) => change(i, c)}
        onPick=${() => setParams({ on: i || null })} onRemove=${() => keep(edits.filter((_, at) => at !== i))} />`,
      )}
      <${AddEdit} onAdd=${
        /** @param {EditDraft} edit */ (edit) => {
          keep([...edits, edit]);
          setParams({ on: edits.length || null });
        }
      } />
    </section>
    <section class="panel sound"><header class="strip-head"><${PlayButton} sound=${sound} />
        <a href=${clipHref(clip)}>${clip.title}</a>
        <span class="quiet">${current ? `${current.target}${current.span ? `, edited from ${clock(current.span[0])} to ${clock(current.span[1])}` : ", edited everywhere; drag to choose a time"}` : ""}</span>
          </header>
      <${Strip} id=${sound.key} clip=${clip} start_s=${0} end_s=${view_s} feature=${current && isFeature(current.target) ? current.target : undefined} melHeight=${110}
        selection=${current?.span ?? null} onSelect=${current ? /** @param {[number, number] | null} span */ (span) => change(edits.indexOf(current), { span }) : undefined} />
          </section>
    ${result && html`<${TokenTable} result=${result} />`}
    <${Python} code=${asPython(clip, edits, overview?.workspace ?? "otoscope-workspace")} />`;
}

/** Ask for the edited transcript whenever the edits change; the latest question wins. @param {ClipInfo} clip @param {EditDraft[]} edits */
function useEdited(clip, edits) {
  const [state, setState] = useState(() => ({
    result: /** @type {EditResult | null} */ (null),
    error: /** @type {Error | null} */ (null),
    busy: true,
  }));
  const question = JSON.stringify({ clip: clip.id, corpus: clip.corpus, edits: edits.map(editItem) });
  useEffect(() => {
    const stop = new AbortController();
    setState((before) => ({ ...before, busy: true }));
    const timer = setTimeout(
      () =>
        postJson("/api/edit", JSON.parse(question), stop.signal).then(
          (result) => setState({ result, error: null, busy: false }),
          (error) => !stop.signal.aborted && setState((before) => ({ ...before, error, busy: false })),
        ),
      120,
    );
    return () => {
      clearTimeout(timer);
      stop.abort();
    };
  }, [question]);
  return state;
}

/** @param {{ result: EditResult | null, busy: boolean }} props */
function Outcome({ result, busy }) {
  const side = /** @param {"base" | "edited"} which */ (which) =>
    html`<p class="transcript">${
      result?.words.length
        ? result.words.map(
            ({ change, ...words }) =>
              words[which].length > 0 &&
              html`<span class=${`words ${change === "same" ? "same" : which === "base" ? "gone" : "new"}`}>${words[which].join(" ")}</span> `,
          )
        : html`<span class="quiet">${result ? "(nothing)" : "…"}</span>`
    }${result && !result[which].text && result.words.length > 0 && html`<span class="quiet">(nothing)</span>`}</p>`;
  const same = result !== null && result.base.text === result.edited.text;
  return html`<div class="sides">
    <div class="side" data-side="base"><h2>As it is</h2>${side("base")}</div>
    <div class="side" data-side="edited">
      <h2>Edited <span class="busy" role="status">${busy ? "listening…" : same ? "the same words" : ""}</span>
      </h2>${side("edited")}</div></div>`;
}

/** @param {{ edit: EditDraft, active: boolean, onChange: (change: Partial<EditDraft>) => void, onPick: () => void, onRemove: () => void }} props */
function EditRow({ edit: { target, op, value, span }, active, onChange, onPick, onRemove }) {
  const feature = /^(.+):(\d+)$/.exec(target);
  const info = /** @type {FeatureInfo | null} */ (
    useJson(feature ? `/api/atlases/${encodeURIComponent(feature[1])}/features/${feature[2]}` : null).data
  );
  const { min, max, relative } = OPS[op];
  const unit = relative ? info?.row.max || 1 : 1;
  /** @param {any} event */
  const choose = (event) => {
    const next = /** @type {EditItem["op"]} */ (event.target.value);
    onChange({ op: next, value: OPS[next].start * (OPS[next].relative ? info?.row.max || 1 : 1) });
  };
  /** @param {any} event */
  const slide = (event) =>
    Number.isFinite(event.target.valueAsNumber) && onChange({ value: event.target.valueAsNumber });
  return html`<div class=${`edit-row ${active ? "active" : ""}`} onFocusIn=${onPick}>
    <span class="what">${info && html`<${Chip} label=${info.row.label} kind=${info.row.label_kind} />`}
      ${feature ? html`<a href=${featureHref({ atlas: feature[1], index: Number(feature[2]) })}>${feature[1]}:<b>${info?.row.unit ?? feature[2]}</b>
        </a>` : html`<b>${target}</b>`}</span>
    <select aria-label="Operation" value=${op} onChange=${choose}>${Object.entries(OPS).map(([name, { title }]) => html`<option value=${name} selected=${name === op}>${title}</option>`)}</select>
    ${
      op === "zero"
        ? html`<span class="slider" /><span class="number" />`
        : html`<input class="slider" type="range" aria-label="Strength" min=${min * unit} max=${max * unit} step=${((max - min) * unit) / 160} value=${value} onInput=${slide} />
      <input class="number" type="number" aria-label="Strength as a number" step="any" value=${Number(value.toPrecision(4))} onChange=${slide} />`
    }
    <span class="quiet limit">${relative && info ? `max ${strength(info.row.max)}` : ""}</span>
    <span class="span">${span ? html`${clock(span[0])}–${clock(span[1])} <button class="link" onClick=${() => onChange({ span: null })}>everywhere</button>` : html`<span class="quiet">everywhere</span>`}</span>
    <button class="icon small" onClick=${onRemove} aria-label=${`Remove ${target}`} title="Remove"><${Icon} name="close" size=${15} /></button>
  </div>`;
}

/** Find a feature to edit. @param {{ onAdd: (edit: EditDraft) => void }} props */
function AddEdit({ onAdd }) {
  const [found, setFound] = useState(/** @type {FeatureRow[]} */ ([]));
  const [note, setNote] = useState("");
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  const turn = useRef(0);
  const search = async () => {
    const q = field.current?.value.trim() ?? "";
    const mine = ++turn.current;
    if (!q) return setFound([]);
    try {
      const page = /** @type {FeaturePage} */ (await getJson(address("/api/features", { q, limit: 6 })));
      if (mine !== turn.current) return;
      setFound(page.rows);
      setNote(page.rows.length ? "" : (page.note ?? ""));
    } catch (error) {
      if (mine === turn.current) setNote(/** @type {Error} */ (error).message);
    }
  };
  /** @param {EditDraft} edit */
  const add = (edit) => {
    onAdd(edit);
    setFound([]);
    if (field.current) field.current.value = "";
  };
  /** @param {SubmitEvent} event */
  const submit = (event) => {
    event.preventDefault();
    const text = field.current?.value.trim() ?? "";
    if (/^(mel|encoder\.)/.test(text)) add({ target: text.replace(/\s/g, ""), op: "scale", value: 0, span: null });
    else if (found[0]) add(firstEdit(found[0]));
  };
  return html`<form class="add-edit" onSubmit=${submit}>
    <label class="field wide"><span>Add an edit</span>
      <input ref=${field} type="search" data-search onInput=${search} placeholder="a sound (m, bird), a feature (sae-2:30) or a site (encoder.2.mlp.post[3,5])" autocomplete="off" />
      </label>
    <div class="found" aria-live="polite">${found.map((row) => html`<button type="button" onClick=${() => add(firstEdit(row))}>
      <${Chip} label=${row.label} kind=${row.label_kind} /> ${row.atlas}:${row.unit} <span class="quiet">${row.f1 === null ? "" : `F1 ${decimal(row.f1)}`}</span>
      </button>`)}
      ${note && html`<span class="quiet">${note}</span>`}</div>
  </form>`;
}

/** @param {{ result: EditResult }} props */
function TokenTable({ result: { tokens } }) {
  if (!tokens.length) return null;
  const most = Math.max(0.5, ...tokens.map(({ delta }) => Math.abs(delta)));
  return html`<section class="panel">
    <h2>How likely its words still are <small>log p of each token of the unedited transcript, without and with the edits</small>
    </h2>
    <div class="scroll"><table class="plain tokens"><thead><tr><th>token</th><th>log p</th><th>edited</th><th>Δ log p</th><th>
      <span class="sr">change drawn as a bar</span></th></tr></thead>
    <tbody>${tokens.map(
      ({
        text,
        log_prob,
        edited_log_prob,
        delta,
      }) => html`<tr><td class="token-text">${text.trim() || "␣"}</td><td>${decimal(log_prob)}</td><td>${decimal(edited_log_prob)}</td>
      <td class=${delta < -0.05 ? "down" : delta > 0.05 ? "up" : ""}>${delta >= 0 ? "+" : "−"}${Math.abs(delta).toFixed(2)}</td>
      <td class="delta-bar"><span class=${delta < 0 ? "down" : "up"} style=${{ width: `${(Math.abs(delta) / most) * 50}%` }} /></td></tr>`,
    )}</tbody></table></div></section>`;
}

/** @param {{ code: string }} props */
function Python({ code }) {
  const [said, setSaid] = useState("");
  const copy = /** @param {string} text @param {string} what */ async (text, what) => {
    const done = await navigator.clipboard?.writeText(text).then(
      () => true,
      () => false,
    );
    setSaid(done ? `${what} copied` : "The browser refused; select the text and copy it.");
    setTimeout(() => setSaid(""), 2500);
  };
  return html`<section class="panel python"><div class="heading"><h2>The same in Python</h2>
      <span><button class="quiet-button" onClick=${() => copy(location.href, "Link")}><${Icon} name="link" /> Copy link</button>
      <button class="quiet-button" onClick=${() => copy(code, "Python")}>Copy as Python</button> <span class="quiet" role="status">${said}</span>
        </span></div>
    <details><summary>show</summary><pre tabindex="0">${code}</pre></details></section>`;
}
