// The picture of a stretch of sound: waveform, mel, lanes and tiers on one time axis, with one cursor over all of them.
import { html, useEffect, useRef, useState } from "../lib/dom.js";
import { clipUrl } from "../lib/api.js";
import { clock, strength } from "../lib/format.js";
import { followPosition, transport } from "../lib/transport.js";
import { Lane, Waveform, laneOf } from "./lane.js";
import { MelCanvas, useGrid } from "./mel.js";
import { Tier, visible } from "./tier.js";

/**
 * @typedef {object} StripProps
 * @property {string} id names the view for the player
 * @property {ClipInfo} clip
 * @property {number} start_s may lie before the clip's start
 * @property {number} end_s may lie after its end
 * @property {string} [feature] the lane to draw, as ATLAS:INDEX
 * @property {number} [top] the lane's value at full height
 * @property {number | null} [at_s] the moment that is shown
 * @property {boolean} [wave]
 * @property {number} [melHeight]
 * @property {[number, number] | null} [selection]
 * @property {(selection: [number, number] | null) => void} [onSelect]
 * @property {(lane: import("./lane.js").LaneData) => void} [onLane]
 * @property {boolean} [compact] no tiers
 * @property {[number, number]} [mark] the stretch that is meant
 */

/** @param {import("../lib/dom.js").Ref<Element | null>} ref @returns {boolean} true once the element has come near the screen */
export function useNear(ref) {
  const [near, setNear] = useState(false);
  useEffect(() => {
    if (near || !ref.current) return;
    const observer = new IntersectionObserver(
      (entries) => {
        if (entries.some((entry) => entry.isIntersecting)) setNear(true);
      },
      { rootMargin: "400px" },
    );
    observer.observe(ref.current);
    return () => observer.disconnect();
  }, [near]);
  return near;
}

/** @param {StripProps} props */
export function Strip(props) {
  const {
    id,
    clip,
    start_s,
    end_s,
    feature,
    top = 0,
    at_s = null,
    wave = false,
    melHeight = 84,
    compact = false,
  } = props;
  const box = useRef(/** @type {HTMLDivElement | null} */ (null));
  const near = useNear(box);
  const from = Math.max(0, start_s);
  const to = Math.min(clip.duration_s, end_s);
  const span = { start_s: from.toFixed(2), end_s: to.toFixed(2) };
  const laneUrl = near && feature ? clipUrl(clip, "lane", span, [feature]) : null;
  const { value: lane, error } = useGrid(laneUrl, (grid) => laneOf(grid, 0));
  const peaksUrl = near && wave ? clipUrl(clip, "peaks", { ...span, columns: 1400 }) : null;
  const { value: outline } = useGrid(peaksUrl, (grid) => grid);
  useEffect(() => {
    if (lane) props.onLane?.(lane);
  }, [lane]);
  const drag = useSelection(box, props);
  const full = top || (lane ? lane.values.reduce((most, value) => Math.max(most, value), 0) : 1) || 1;
  const tiers = compact ? [] : ["words", "phones", "events"].filter((name) => clip.tiers[name]?.length);
  const percent = /** @param {number} s */ (s) => `${((s - start_s) / (end_s - start_s)) * 100}%`;
  return html`
    <div class="strip" ref=${box} ...${drag.handlers} data-clip=${clip.id}>
      ${wave && html`<${Waveform} grid=${outline} start_s=${start_s} end_s=${end_s} from_s=${from} to_s=${to} height=${56} />`}
      <${MelCanvas} clip=${clip} start_s=${start_s} end_s=${end_s} height=${melHeight} load=${near}
        label=${`log-mel of ${clip.title}, ${clock(from)} to ${clock(to)}`} />
      ${
        feature &&
        (error
          ? html`<p class="problem">${error.message}</p>`
          : html`<${Lane} lane=${lane} top=${full} start_s=${start_s} end_s=${end_s} height=${compact ? 22 : 38}
            label=${`activation of ${feature}, highest ${strength(full)}`} />`)
      }
      ${tiers.map((name) => html`<${Tier} key=${name} name=${name} intervals=${clip.tiers[name]} start_s=${start_s} end_s=${end_s} height=${20} at_s=${at_s} />`)}
      ${props.mark && html`<div class="meant" style=${{ left: percent(props.mark[0]), width: `${((props.mark[1] - props.mark[0]) / (end_s - start_s)) * 100}%` }} />`}
      ${props.selection && html`<div class="selection" style=${{ left: percent(props.selection[0]), width: `${((props.selection[1] - props.selection[0]) / (end_s - start_s)) * 100}%` }} />`}
      <${Cursor} id=${id} start_s=${start_s} end_s=${end_s} />
    </div>`;
}

/** The moving line. @param {{ id: string, start_s: number, end_s: number }} props */
export function Cursor({ id, start_s, end_s }) {
  const line = useRef(/** @type {HTMLDivElement | null} */ (null));
  useEffect(
    () =>
      followPosition((position, key) => {
        const style = line.current?.style;
        if (!style) return false;
        const shown = key === id && transport.status !== "stopped" && position >= start_s && position <= end_s;
        style.visibility = shown ? "visible" : "hidden";
        style.left = `${((position - start_s) / (end_s - start_s)) * 100}%`;
        return key === id;
      }),
    [id, start_s, end_s],
  );
  return html`<div class="cursor" ref=${line} aria-hidden="true" />`;
}

/**
 * Drag over the picture to select a time range; click to play from there.
 * @param {import("../lib/dom.js").Ref<HTMLDivElement | null>} box @param {StripProps} props
 */
function useSelection(box, { id, clip, start_s, end_s, onSelect }) {
  const from = useRef(/** @type {number | null} */ (null));
  /** @param {PointerEvent} event */
  const seconds = (event) => {
    const { left, width } = /** @type {HTMLDivElement} */ (box.current).getBoundingClientRect();
    const at = start_s + ((event.clientX - left) / width) * (end_s - start_s);
    return Math.min(Math.max(at, Math.max(0, start_s)), Math.min(end_s, clip.duration_s));
  };
  const handlers = {
    /** @param {PointerEvent} event */
    onPointerDown(event) {
      if (event.button !== 0) return;
      from.current = seconds(event);
      if (onSelect) box.current?.setPointerCapture(event.pointerId);
    },
    /** @param {PointerEvent} event */
    onPointerMove(event) {
      if (from.current === null || !onSelect || !event.buttons) return;
      const at = seconds(event);
      if (Math.abs(at - from.current) > 0.02) onSelect([Math.min(at, from.current), Math.max(at, from.current)]);
    },
    /** @param {PointerEvent} event */
    onPointerUp(event) {
      if (from.current === null) return;
      const [began, at] = [from.current, seconds(event)];
      from.current = null;
      if (onSelect && Math.abs(at - began) > 0.02) return;
      onSelect?.(null);
      void transport.play({ key: id, clip, start_s, end_s, title: clip.title }, at);
    },
  };
  return { handlers };
}

/** The same as a table. @param {{ clip: ClipInfo, start_s: number, end_s: number, lane: import("./lane.js").LaneData | null, feature?: string }} props */
export function StripTable({ clip, start_s, end_s, lane, feature }) {
  const tiers = ["words", "phones", "events"].filter((name) => clip.tiers[name]?.length);
  const rows = tiers.flatMap((name) =>
    visible(clip.tiers[name], start_s, end_s).map((interval) => ({ name, interval })),
  );
  /** @param {Interval} interval */
  const highest = ({ start_s: a, end_s: b }) => {
    if (!lane) return "";
    const step = (lane.end_s - lane.start_s) / lane.values.length;
    const part = lane.values.slice(
      Math.max(0, Math.floor((a - lane.start_s) / step)),
      Math.ceil((b - lane.start_s) / step),
    );
    return part.length ? strength(part.reduce((most, value) => Math.max(most, value), 0)) : "";
  };
  if (!rows.length) return html`<p class="quiet">This clip has no words, phones or events.</p>`;
  return html`<table class="plain">
    <thead><tr><th>tier</th><th>label</th><th>from</th><th>to</th>${feature && html`<th>highest ${feature}</th>`}</tr></thead>
    <tbody>${rows.map(
      ({ name, interval }) => html`<tr>
      <td>${name}</td><td>${interval.label}</td><td>${clock(interval.start_s)}</td><td>${clock(interval.end_s)}</td>
      ${feature && html`<td>${highest(interval)}</td>`}</tr>`,
    )}</tbody>
  </table>`;
}
