// The frame around every page: header, search, player, key map; and which address shows which page.
import { html, render, useEffect, useErrorBoundary, useRef, useState } from "./lib/dom.js";
import { COLOUR_MAPS } from "./lib/colour.js";
import { clock } from "./lib/format.js";
import { KEYS, useKeys } from "./lib/keys.js";
import { usePreference } from "./lib/preferences.js";
import { address, catchLinks, navigate, usePlace } from "./lib/router.js";
import { SPEEDS, followPosition, useTransport } from "./lib/transport.js";
import { Icon } from "./parts/icons.js";
import { ApiPage } from "./pages/api.js";
import { ClipPage } from "./pages/clip.js";
import { ClipsPage } from "./pages/clips.js";
import { EditPage } from "./pages/edit.js";
import { FeaturePage } from "./pages/feature.js";
import { FeaturesPage } from "./pages/features.js";
import { HomePage } from "./pages/home.js";
import { MomentsPage } from "./pages/moments.js";
import { SoundPage } from "./pages/sound.js";

/** @type {[RegExp, (found: string[]) => { page: unknown, title: string, props?: object }][]} */
const PAGES = [
  [/^\/$/, () => ({ page: HomePage, title: "" })],
  [/^\/features\/?$/, () => ({ page: FeaturesPage, title: "Features" })],
  [
    /^\/feature\/(.+):(\d+)\/?$/,
    ([, atlas, index]) => ({ page: FeaturePage, title: `${atlas}:${index}`, props: { atlas, index: Number(index) } }),
  ],
  [/^\/sound\/?$/, () => ({ page: SoundPage, title: "By sound" })],
  [/^\/moments\/?$/, () => ({ page: MomentsPage, title: "Moments" })],
  [/^\/clips\/?$/, () => ({ page: ClipsPage, title: "Clips" })],
  [/^\/clip\/(.+)$/, ([, id]) => ({ page: ClipPage, title: id, props: { id } })],
  [/^\/edit\/?$/, () => ({ page: EditPage, title: "Edit" })],
  [/^\/api\/?$/, () => ({ page: ApiPage, title: "API" })],
];

/** @param {string} path */
function pageOf(path) {
  for (const [pattern, make] of PAGES) {
    const found = pattern.exec(path);
    if (found) return make(found.map((part) => decodeURIComponent(part ?? "")));
  }
  return { page: NoPage, title: "No such page" };
}

function NoPage() {
  return html`<main class="page narrow"><h1>There is no such page</h1>
    <p>Nothing lives at this address. Go <a href="/">home</a> or look through the <a href="/features">features</a>.</p></main>`;
}

function App() {
  const { path } = usePlace();
  const { page, title, props } = pageOf(path);
  const [help, setHelp] = useState(false);
  useEffect(() => {
    document.title = title ? `${title} · Otoscope` : "Otoscope";
  }, [title]);
  useKeys(
    {
      "?": () => setHelp((open) => !open),
      "/": () => /** @type {HTMLInputElement | null} */ (document.querySelector("[data-search]"))?.select(),
    },
    [],
  );
  return html`
    <a class="skip" href="#content">Skip to the content</a>
    <${Header} onHelp=${() => setHelp(true)} path=${path} />
    <div id="content" class="content" tabindex="-1"><${Guarded} key=${path}><${page} key=${path} ...${props} /><//></div>
    <${Player} />
    ${help && html`<${KeyMap} onClose=${() => setHelp(false)} />`}`;
}

/** @param {{ children: unknown }} props */
function Guarded({ children }) {
  const [error, again] = useErrorBoundary((problem) => console.error(problem));
  if (!error) return children;
  return html`<main class="page narrow"><h1>This page stopped</h1><p class="problem">${error.message}</p>
    <button onClick=${again}>Try again</button></main>`;
}

/** @param {{ onHelp: () => void, path: string }} props */
function Header({ onHelp, path }) {
  const current = /** @param {string} start */ (start) => (path.startsWith(start) ? "page" : null);
  return html`<header class="top">
    <a class="brand" href="/" aria-label="Otoscope, home"><img src="/web/favicon.svg" alt="" width="26" height="26" /><span>Otoscope</span></a>
    <nav aria-label="Pages">
      <a href="/features" aria-current=${current("/feature")}>Features</a>
      <a href="/sound" aria-current=${current("/sound")}>By sound</a>
      <a href="/moments" aria-current=${current("/moments")}>Moments</a>
      <a href="/clips" aria-current=${current("/clip")}>Clips</a>
      <a href="/edit" aria-current=${current("/edit")}>Edit</a>
    </nav>
    ${path !== "/" && !path.startsWith("/features") && html`<${QuickSearch} />`}
    <span class="grow" />
    <${Settings} />
    <button class="icon" onClick=${onHelp} aria-label="Keys" title="Keys (?)">?</button>
  </header>`;
}

function QuickSearch() {
  const submit = /** @param {SubmitEvent} event */ (event) => {
    event.preventDefault();
    const field = /** @type {HTMLInputElement} */ (
      /** @type {HTMLFormElement} */ (event.target).elements.namedItem("q")
    );
    navigate(address("/features", { q: field.value.trim() }));
  };
  return html`<form class="quick" role="search" aria-label="Features" onSubmit=${submit}>
    <input name="q" type="search" data-search placeholder="m, seven, bird…" aria-label="Search features" autocomplete="off" /></form>`;
}

function Settings() {
  const [map, setMap] = usePreference("colours", "magma");
  const [theme, setTheme] = usePreference("theme", "system");
  useEffect(() => {
    if (theme === "system") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = theme;
  }, [theme]);
  return html`<details class="menu"><summary class="icon" aria-label="Display" title="Display">◐</summary>
    <div class="sheet">
      <label>Colours of sound <select value=${map} onChange=${/** @param {any} e */ (e) => setMap(e.target.value)}>
        ${COLOUR_MAPS.map((name) => html`<option value=${name} selected=${name === map}>${name}</option>`)}</select></label>
      <label>Theme <select value=${theme} onChange=${/** @param {any} e */ (e) => setTheme(e.target.value)}>
        ${["system", "dark", "light"].map((name) => html`<option value=${name} selected=${name === theme}>${name}</option>`)}</select></label>
      <a href="/api">HTTP API</a>
    </div></details>`;
}

function Player() {
  const player = useTransport();
  const [speed, setSpeed] = usePreference("speed", 1);
  const counter = useRef(/** @type {HTMLSpanElement | null} */ (null));
  useEffect(
    () =>
      followPosition((position) => {
        if (counter.current) counter.current.textContent = clock(position);
        return true;
      }),
    [],
  );
  useKeys(
    {
      " ": () => player.sound && player.toggle(player.sound),
      Escape: () => player.stop(),
    },
    [],
  );
  const { sound, status, error } = player;
  const busy = status === "playing" || status === "loading";
  return html`<footer class=${`player ${sound ? "" : "empty"}`} aria-label="Player">
    <button class="play" disabled=${!sound} aria-label=${busy ? "Pause" : "Play"} onClick=${() => sound && player.toggle(sound)}>
      <${Icon} name=${busy ? "pause" : "play"} /></button>
    <span class="counter" ref=${counter}>0:00.00</span>
    <span class="title">${error ? html`<span class="problem inline" role="alert">${error.message}</span>` : (sound?.title ?? "Nothing played yet")}</span>
    <label class="speed"><span class="sr">Speed</span>
      <select value=${speed} onChange=${/** @param {any} e */ (e) => setSpeed(Number(e.target.value))}>
        ${SPEEDS.map((value) => html`<option value=${value} selected=${value === speed}>${value}×</option>`)}</select></label>
  </footer>`;
}

/** @param {{ onClose: () => void }} props */
function KeyMap({ onClose }) {
  const dialog = useRef(/** @type {HTMLDialogElement | null} */ (null));
  useEffect(() => dialog.current?.showModal(), []);
  return html`<dialog ref=${dialog} class="keys" onClose=${onClose} aria-labelledby="keys-title">
    <h2 id="keys-title">Keys</h2>
    <dl>${KEYS.map(([keys, what]) => html`<dt>${keys.split("  ").map((key) => html`<kbd>${key}</kbd> `)}</dt><dd>${what}</dd>`)}</dl>
    <form method="dialog"><button>Close</button></form>
  </dialog>`;
}

catchLinks();
const app = document.getElementById("app");
if (app) {
  app.textContent = "";
  render(html`<${App} />`, app);
}
