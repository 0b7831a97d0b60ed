import type { Attachment } from "svelte/attachments";

/** Calls `close` at a press outside of the element, or when the focus leaves it for another one. */
export function dismissOutside(close: () => void): Attachment<HTMLElement> {
  return (element) => {
    const onPointerDown = (event: PointerEvent): void => {
      if (event.target instanceof Node && !element.contains(event.target)) close();
    };
    const onFocusOut = (event: FocusEvent): void => {
      if (event.relatedTarget instanceof Node && !element.contains(event.relatedTarget)) close();
    };
    document.addEventListener("pointerdown", onPointerDown, true);
    element.addEventListener("focusout", onFocusOut);
    return () => {
      document.removeEventListener("pointerdown", onPointerDown, true);
      element.removeEventListener("focusout", onFocusOut);
    };
  };
}
