/**
 * JSON with indents.  It works on the text, not on parsed values: integers beyond 2^53 would lose their digits.
 * Lists of plain values stay in one line, as people write matrices.
 */

const TOKEN = /"(?:[^"\\]|\\.)*"|[{}[\],:]|[^\s{}[\],:"]+/g;

export const pretty = (value: unknown): string => format(JSON.stringify(value) ?? "null");

/** The text as it is when it is no JSON. */
export function format(text: string): string {
  try {
    JSON.parse(text);
  } catch {
    return text;
  }
  return new Writer(text.match(TOKEN) ?? []).value("");
}

/** Of tokens that are known to be JSON. */
class Writer {
  private at = 0;

  constructor(private readonly tokens: string[]) {}

  value(indent: string): string {
    const token = this.next();
    if (token === "[") return this.group("]", indent, (inner) => this.value(inner));
    if (token === "{") return this.group("}", indent, (inner) => `${this.next()}${this.next()} ${this.value(inner)}`);
    return token;
  }

  private group(end: string, indent: string, item: (inner: string) => string): string {
    const inner = `${indent}  `;
    const items: string[] = [];
    let flat = end === "]";
    while (this.tokens[this.at] !== end) {
      flat &&= !"[{".includes(this.tokens[this.at] ?? "");
      items.push(item(inner));
      if (this.tokens[this.at] === ",") this.at += 1;
    }
    this.at += 1;
    const brackets = end === "]" ? ["[", "]"] : ["{", "}"];
    if (flat || !items.length) return brackets[0] + items.join(", ") + brackets[1];
    return `${brackets[0]}\n${inner}${items.join(`,\n${inner}`)}\n${indent}${brackets[1]}`;
  }

  private next(): string {
    return this.tokens[this.at++] ?? "";
  }
}
