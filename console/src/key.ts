/** The API key: in this tab's sessionStorage alone, so that it is gone when the tab is. */
import { signal } from "@preact/signals";

const NAME = "oipserver.key";

export const apiKey = signal(stored());

export function keep(key: string): void {
  apiKey.value = key.trim();
  try {
    if (apiKey.value) sessionStorage.setItem(NAME, apiKey.value);
    else sessionStorage.removeItem(NAME);
  } catch {
    // A browser that stores nothing: the key lasts as long as the page.
  }
}

function stored(): string {
  try {
    return sessionStorage.getItem(NAME) ?? "";
  } catch {
    return "";
  }
}
