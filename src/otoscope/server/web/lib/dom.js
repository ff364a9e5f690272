// The one door to the vendored libraries: every other module imports from here.
import { Fragment, h, render } from "../vendor/preact@11.2.0/preact.mjs";
import htm from "../vendor/htm@3.1.1/htm.mjs";

export {
  useCallback,
  useEffect,
  useErrorBoundary,
  useId,
  useLayoutEffect,
  useMemo,
  useRef,
  useState,
} from "../vendor/preact@11.2.0/hooks.mjs";
export { Fragment, render };
export const html = htm.bind(h);
