// What people say about a feature: read it, add to it, change it; edits that crossed are shown side by side.
import { html, useEffect, useId, useRef, useState } from "../lib/dom.js";
import { getJson, sendJson } from "../lib/api.js";
import { clock, labelText, percent } from "../lib/format.js";
import { useKeys } from "../lib/keys.js";
import { setPreference, usePreference } from "../lib/preferences.js";
import { address } from "../lib/router.js";
import { Problem } from "./feature-bits.js";
import { Icon } from "./icons.js";

/** @typedef {{ data: NotesInfo | null, error: Error | null, author: string, blind: boolean, concealed: boolean, add: (note: Record<string, unknown>) => Promise<boolean>, change: (note: NoteInfo, changes: Record<string, unknown>, basedOn?: string[]) => Promise<NoteInfo | null>, remove: (note: NoteInfo) => Promise<NoteInfo | null> }} NoteBook */
/** @typedef {{ clip_id: string, start_s: number, end_s: number }} Moment */

const WRITABLE = /** @type {const} */ (["label", "comment", "tag"]);
const HINTS = { label: "What does it respond to?", comment: "What did you notice?", tag: "One word to find it by" };
const LONGEST = { label: 200, comment: 10000, tag: 80 };
const SURE = [0.25, 0.5, 0.75, 0.95];
const when = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/**
 * The notes of a feature, and what can be done with them. `concealed`: this visitor must not see yet what others (or the
 * atlas) call the feature.
 * @param {{ atlas: string, index: number }} row @returns {NoteBook}
 */
export function useNotes({ atlas, index }) {
  const [author] = usePreference("author", "");
  const [wanted] = usePreference("blind", false);
  const blind = wanted && author !== "";
  const place = `/api/atlases/${encodeURIComponent(atlas)}/features/${index}/notes`;
  const url = address(place, blind ? { author, blind: 1 } : {});
  const [state, setState] = useState({
    url: "",
    data: /** @type {NotesInfo | null} */ (null),
    error: /** @type {Error | null} */ (null),
  });
  const [round, setRound] = useState(0);
  const again = () => setRound((n) => n + 1);
  useEffect(() => {
    const stop = new AbortController();
    getJson(url, stop.signal).then(
      (data) => setState({ url, data, error: null }),
      (error) => stop.signal.aborted || setState((before) => ({ ...before, url, error })),
    );
    return () => stop.abort();
  }, [url, round]);
  useEffect(() => {
    addEventListener("focus", again);
    return () => removeEventListener("focus", again);
  }, []);
  /** @param {() => Promise<NoteInfo>} act */
  const doing = async (act) => {
    try {
      const done = await act();
      again();
      return done;
    } catch (error) {
      setState((before) => ({ ...before, error: /** @type {Error} */ (error) }));
      return null;
    }
  };
  const data = state.url === url ? state.data : null;
  return {
    data,
    error: state.error,
    author,
    blind,
    concealed: blind && !data?.revealed,
    add: async (note) => (await doing(() => sendJson("POST", place, { author, blind, ...note }))) !== null,
    change: (note, changes, basedOn = revisionsOf(note)) =>
      doing(() => sendJson("PUT", `/api/notes/${note.id}`, { based_on: basedOn, editor: author, ...changes })),
    remove: (note) => {
      const seen = revisionsOf(note).map((revision) => `&based_on=${revision}`);
      return doing(() => sendJson("DELETE", `${address(`/api/notes/${note.id}`, { editor: author })}${seen.join("")}`));
    },
  };
}

/** @param {NoteInfo} note */
const revisionsOf = (note) => note.versions.map(({ revision }) => revision);

/** @param {NoteBook} book @param {string} kind @param {string} [author] @returns {NoteInfo[]} */
export const notesOf = ({ data }, kind, author) =>
  (data?.notes ?? []).filter((note) => note.kind === kind && (author === undefined || note.author === author));

/** @param {{ book: NoteBook, row: FeatureRow, corpus: string, moment: Moment | null }} props */
export function Notes({ book, row, corpus, moment }) {
  const [gone, setGone] = useState(/** @type {NoteInfo | null} */ (null));
  const { data, error, author, blind } = book;
  const field = useRef(/** @type {HTMLElement | null} */ (null));
  useKeys({ l: () => field.current?.focus() }, []);
  const remove = async (/** @type {NoteInfo} */ note) => setGone(await book.remove(note));
  const restore = async () => {
    if (gone && (await book.change(gone, {}))) setGone(null);
  };
  const stars = notesOf(book, "star").map((note) => note.author);
  const shown = (data?.notes ?? []).filter(({ kind }) => kind === "label" || kind === "comment");
  return html`<section class="panel notes"><h2>Notes by people</h2>
    <${Problem} error=${error} />
    ${!book.concealed && row.label !== null && author !== "" && html`<${Verdict} book=${book} about=${labelText(row.label, row.label_kind)} />`}
    <ul class="note-list">${shown.map((note) => html`<${Item} key=${note.id} note=${note} book=${book} corpus=${corpus} onRemove=${() => remove(note)} />`)}</ul>
    ${gone && html`<p class="quiet" role="status">Deleted “${gone.current.text}”. <button class="link" onClick=${restore}>Undo</button></p>`}
    <${Tags} book=${book} onRemove=${remove} />
    ${stars.length > 0 && html`<p class="quiet small">★ ${[...new Set(stars)].join(", ")}</p>`}
    ${book.concealed && data !== null && data.hidden > 0 && html`<p class="quiet small">${data.hidden} by others, shown once you have given a label</p>`}
    ${
      author === ""
        ? html`<${Name} field=${field} />`
        : html`<${Composer} book=${book} moment=${moment} field=${field} />
      <p class="who quiet"><span>as <b>${author}</b> <button class="link" onClick=${() => setPreference("author", "")}>change</button></span>
        <label class="check" title="Hide the automatic label and what others wrote until you have given your own label">
          <input type="checkbox" checked=${blind} onChange=${/** @param {any} e */ (e) => setPreference("blind", e.target.checked)} /> blind</label></p>`
    }
  </section>`;
}

/** @param {{ field: { current: HTMLElement | null } }} props */
function Name({ field }) {
  const submit = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const name = new FormData(/** @type {HTMLFormElement} */ (event.target)).get("author");
    setPreference("author", String(name ?? "").trim());
  };
  return html`<form class="row-form" onSubmit=${submit}>
    <input name="author" ref=${field} required maxlength="80" aria-label="Your name" placeholder="Your name, to write notes (L)" autocomplete="name" />
    <button>Continue</button></form>`;
}

/** @param {{ book: NoteBook, about: string }} props */
function Verdict({ book, about }) {
  const verdicts = notesOf(book, "verdict").filter(({ current }) => current.about === about);
  const own = verdicts.find((note) => note.author === book.author);
  const give = (/** @type {string} */ text) => {
    if (!own) return book.add({ kind: "verdict", text, about });
    return own.current.text === text ? book.remove(own) : book.change(own, { text });
  };
  return html`<p class="verdict"><span>Is ${about} right?</span> ${["agree", "disagree"].map((text) => {
    const who = verdicts.filter(({ current }) => current.text === text).map((note) => note.author);
    return html`<button class="small" aria-pressed=${own?.current.text === text} title=${who.join(", ")} onClick=${() => give(text)}>
      ${text}${who.length > 0 && html` <small>${who.length}</small>`}</button>`;
  })}</p>`;
}

/** @param {{ note: NoteInfo, book: NoteBook, corpus: string, onRemove: () => void }} props */
function Item({ note, book, corpus, onRemove }) {
  const [basis, setBasis] = useState(/** @type {string[] | null} */ (null));
  const { current, versions, kind, author } = note;
  const save = async (/** @type {string} */ text) => {
    if (basis && (await book.change(note, { text }, basis))) setBasis(null);
  };
  const said = [
    author,
    current.editor !== author && `edited by ${current.editor}`,
    when.format(new Date(current.edited)),
    current.confidence !== null && `${percent(current.confidence)} sure`,
    current.blind && "blind",
  ];
  if (basis) return html`<li class=${`note is-${kind}`}><${Change} note=${note} onSave=${save} onCancel=${() => setBasis(null)} /></li>`;
  return html`<li class=${`note is-${kind}`} data-note=${note.id}>
    <div class="said"><span class="text">${current.text}</span>
      ${
        book.author !== "" &&
        html`<span class="acts"><button class="icon small" onClick=${() => setBasis(revisionsOf(note))} aria-label=${`Edit “${current.text}”`} title="Edit"><${Icon} name="pen" size=${14} /></button>
      <button class="icon small" onClick=${onRemove} aria-label=${`Delete “${current.text}”`} title="Delete"><${Icon} name="close" size=${14} /></button></span>`
      }</div>
    ${current.evidence.map((item) => html`<${Evidence} item=${item} corpus=${corpus} />`)}
    <p class="quiet small">${said.filter(Boolean).join(" · ")}</p>
    ${versions.length > 1 && html`<${Conflict} note=${note} book=${book} />`}
  </li>`;
}

/** @param {{ note: NoteInfo, book: NoteBook }} props */
function Conflict({ note, book }) {
  const keep = (/** @type {VersionInfo} */ { text, confidence, evidence, deleted }) =>
    deleted ? book.remove(note) : book.change(note, { text, confidence, evidence });
  return html`<div class="conflict" role="status"><p>This ${note.kind} was changed twice at the same time. Nothing is lost: which one should stay?</p>
    <ul>${note.versions.map(
      (version) => html`<li><span class="text">${version.deleted ? html`<i>deleted</i>` : version.text}</span>
      <span class="quiet small">${version.editor}</span>
      ${book.author !== "" && html`<button class="small" onClick=${() => keep(version)} aria-label=${`Keep “${version.text}” by ${version.editor}`}>Keep</button>`}</li>`,
    )}</ul>
    ${book.author !== "" && html`<p class="quiet small">Or edit the note: your text then replaces both.</p>`}</div>`;
}

/** @param {{ note: NoteInfo, onSave: (text: string) => void, onCancel: () => void }} props */
function Change({ note, onSave, onCancel }) {
  const field = useRef(/** @type {HTMLInputElement | null} */ (null));
  useEffect(() => field.current?.select(), []);
  const submit = (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    onSave(field.current?.value ?? "");
  };
  const keys = (/** @type {KeyboardEvent} */ event) => {
    if (event.key !== "Escape") return;
    event.stopPropagation();
    onCancel();
  };
  const kind = /** @type {"label" | "comment"} */ (note.kind);
  const tag = kind === "comment" ? "textarea" : "input";
  return html`<form class="composer" onSubmit=${submit} onKeyDown=${keys}>
    <${tag} ref=${field} required maxlength=${LONGEST[kind]} aria-label=${`Change the ${kind}`} defaultValue=${note.current.text} />
    <div class="choices"><button type="button" class="quiet-button" onClick=${onCancel}>Cancel</button><button class="primary">Save</button></div></form>`;
}

/** @param {{ item: EvidenceInfo, corpus: string }} props */
function Evidence({ item, corpus }) {
  const { clip_id, start_s, end_s, reference } = item;
  const words = reference && html`<span class="quiet small">${reference}</span>`;
  if (clip_id === null || start_s === null || end_s === null) return words;
  const t = `${start_s.toFixed(2)}-${end_s.toFixed(2)}`;
  return html`<a class="evidence small" href=${address(`/clip/${encodeURIComponent(clip_id)}`, { corpus, t })}>${clip_id} at ${clock(start_s)}</a>${words}`;
}

/** @param {{ book: NoteBook, onRemove: (note: NoteInfo) => void }} props */
function Tags({ book, onRemove }) {
  const tags = notesOf(book, "tag");
  if (!tags.length) return null;
  return html`<ul class="tags">${tags.map(
    (note) => html`<li class="chip" title=${note.author}>${note.current.text}
      ${book.author !== "" && html`<button class="icon" onClick=${() => onRemove(note)} aria-label=${`Delete the tag “${note.current.text}”`}><${Icon} name="close" size=${11} /></button>`}</li>`,
  )}</ul>`;
}

/** @param {{ book: NoteBook, moment: Moment | null, field: { current: HTMLElement | null } }} props */
function Composer({ book, moment, field }) {
  const [kind, setKind] = useState(/** @type {typeof WRITABLE[number]} */ ("label"));
  const [text, setText] = useState("");
  const [sure, setSure] = useState("");
  const [attached, setAttached] = useState(false);
  const name = useId();
  const submit = async (/** @type {SubmitEvent} */ event) => {
    event.preventDefault();
    const evidence = attached && moment && kind !== "tag" ? [moment] : [];
    const confidence = kind === "label" && sure !== "" ? Number(sure) : null;
    if (!(await book.add({ kind, text, confidence, evidence }))) return;
    setText("");
    setSure("");
    setAttached(false);
  };
  useKeys(
    {
      l: () => {
        setKind("label");
        field.current?.focus();
      },
    },
    [],
  );
  const tag = kind === "comment" ? "textarea" : "input";
  return html`<form class="composer" onSubmit=${submit}>
    <div class="kinds" role="radiogroup" aria-label="Kind of note">${WRITABLE.map((each) => html`<label><input type="radio" name=${name} checked=${each === kind} onChange=${() => setKind(each)} /><span>${each}</span></label>`)}</div>
    <div class="row-form"><${tag} key=${tag} ref=${field} required maxlength=${LONGEST[kind]} aria-label=${`New ${kind}`} placeholder=${`${HINTS[kind]}${kind === "label" ? " (L)" : ""}`} autocomplete="off"
      value=${text} onInput=${/** @param {any} e */ (e) => setText(e.target.value)} /><button class="primary">Add</button></div>
    <div class="choices">
      ${
        kind === "label" &&
        html`<select aria-label="How sure you are" value=${sure} onChange=${/** @param {any} e */ (e) => setSure(e.target.value)}>
        <option value="">how sure?</option>${SURE.map((value) => html`<option value=${value} selected=${String(value) === sure}>${percent(value)} sure</option>`)}</select>`
      }
      ${
        kind !== "tag" &&
        moment &&
        html`<label class="check" title=${`${moment.clip_id} at ${clock(moment.start_s)}`}><input type="checkbox" checked=${attached} onChange=${/** @param {any} e */ (e) => setAttached(e.target.checked)} /> with this example</label>`
      }</div></form>`;
}
