/** The address behind `#` says what is shown, so that a link opens a model and a tab. */
import { signal } from "@preact/signals";

export const TABS = ["inference", "metadata", "compare", "load"] as const;
export type Tab = (typeof TABS)[number];

export type Route =
  | { page: "services" }
  | { page: "server" }
  | { page: "client"; method?: string; path?: string }
  | { page: "model"; model: string; tab: Tab; version?: string };

export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  const [page, model, tab] = path.split("/").map(decoded);
  const asked = new URLSearchParams(query);
  if (page === "server") return { page };
  if (page === "client") return { page, ...given("method", asked), ...given("path", asked) };
  if (page !== "models" || !model) return { page: "services" };
  return { page: "model", model, tab: TABS.find((one) => one === tab) ?? "inference", ...given("version", asked) };
}

export function href(route: Route): string {
  switch (route.page) {
    case "services":
      return "#/";
    case "server":
      return "#/server";
    case "client":
      return `#/client${query({ method: route.method, path: route.path })}`;
    case "model":
      return `#/models/${encodeURIComponent(route.model)}/${route.tab}${query({ version: route.version })}`;
  }
}

export const route = signal<Route>(parse(location.hash));
addEventListener("hashchange", () => (route.value = parse(location.hash)));

export function go(to: Route): void {
  location.hash = href(to);
}

function given<Name extends string>(name: Name, asked: URLSearchParams): { [key in Name]?: string } {
  const value = asked.get(name);
  return (value ? { [name]: value } : {}) as { [key in Name]?: string };
}

function query(members: Record<string, string | undefined>): string {
  const asked = new URLSearchParams();
  for (const [name, value] of Object.entries(members)) if (value) asked.set(name, value);
  const text = asked.toString();
  return text ? `?${text}` : "";
}

function decoded(part: string): string {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
}
