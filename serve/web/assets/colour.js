// Colours for code: comments, texts, numbers and the words that most languages keep for themselves.
import { make } from "./frame.js";

const keywords = new Set(`abstract and as async await bool boolean break case catch chan char class const constructor continue def default defer del delete do
  double elif else enum except export extends extern false final finally float fn for from func function go goto if impl implements import in
  instanceof int interface is lambda let loop long map match mod module mut namespace new nil none None not null nullptr of or package pass private
  protected pub public raise range return select self Self short sizeof static string struct super switch template this throw throws trait true
  True False try type typedef typeof union unsafe unsigned use using var virtual void volatile where while with yield
  SELECT FROM WHERE INSERT INTO UPDATE SET DELETE CREATE TABLE JOIN LEFT ON GROUP BY ORDER LIMIT AND OR NOT AS VALUES
  then fi done esac echo local end elsif unless require begin`.split(/\s+/));

const text = `"(?:\\\\.|[^"\\\\\\n])*"?|'(?:\\\\.|[^'\\\\\\n])*'?`;
const rest = `\\b\\d[\\w.]*\\b|[A-Za-z_]\\w*`;
const styles = {
  hash: new RegExp(`("""[\\s\\S]*?(?:"""|$)|'''[\\s\\S]*?(?:'''|$)|${text})|((?<![\\w$&])#.*)|${rest}`, "g"),
  slash: new RegExp("(`[^`]*`?|" + text + `)|(\\/\\/.*|\\/\\*[\\s\\S]*?(?:\\*\\/|$))|${rest}`, "g"),
  dash: new RegExp(`(${text})|(--.*|\\/\\*[\\s\\S]*?(?:\\*\\/|$))|${rest}`, "g"),
  markup: /("[^"\n]*"|'[^'\n]*')|(<!--[\s\S]*?(?:-->|$))|(?<=<\/?)[\w-]+/g,
};
const styleOf = { python: "hash", py: "hash", sh: "hash", bash: "hash", shell: "hash", zsh: "hash", ruby: "hash", rb: "hash", yaml: "hash", yml: "hash", toml: "hash", r: "hash", perl: "hash",
  makefile: "hash", dockerfile: "hash", sql: "dash", lua: "dash", haskell: "dash", html: "markup", xml: "markup", svg: "markup", text: "", txt: "", plaintext: "", md: "", markdown: "", diff: "" };

const longest = 40000; // longer code stays plain

// colour is code as texts and coloured spans.
export function colour(code, language) {
  const style = styleOf[language.toLowerCase()] ?? (language ? "slash" : "");
  if (!style || code.length > longest) return [code];
  const out = [];
  let at = 0;
  for (const m of code.matchAll(styles[style])) {
    const kind = m[1] !== undefined ? "s" : m[2] !== undefined ? "c" : /^\d/.test(m[0]) ? "n" : style === "markup" || keywords.has(m[0]) ? "k" : "";
    if (!kind) continue;
    out.push(code.slice(at, m.index), make("span", { className: "c-" + kind }, m[0]));
    at = m.index + m[0].length;
  }
  out.push(code.slice(at));
  return out;
}
