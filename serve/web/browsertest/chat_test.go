package browsertest

import (
	"strings"
	"testing"

	"github.com/chromedp/cdproto/input"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

const furnace = `A *danlu* is an alchemist's **furnace**. Three things matter:

1. The fire, kept *low and even*.
2. The vessel, which must not crack.
3. Patience.

| metal | melts at |
|---|---:|
| tin | 231.9 °C |
| copper | 1085 °C |

` + "```go\n// Heat brings the furnace to a temperature.\nfunc Heat(to float64) error {\n\tfor t := 20.0; t < to; t += 1.5 {\n\t\tfmt.Println(\"at\", t)\n\t}\n\treturn nil\n}\n```\n" + `
> 炼丹不怕火候慢，只怕心不静。

Read on at [the plan](https://example.com/plan).`

// say writes a message and sends it with the keyboard.
func (b *browser) say(text string) {
	b.t.Helper()
	b.run(chromedp.SendKeys("#ask", text, chromedp.ByQuery))
	b.enter()
}

// enter presses the key as a keyboard does: in one event, which the page may take.
func (b *browser) enter() {
	b.t.Helper()
	key := func(kind input.KeyType) *input.DispatchKeyEventParams {
		return input.DispatchKeyEvent(kind).WithKey("Enter").WithCode("Enter").WithWindowsVirtualKeyCode(13)
	}
	b.run(key(input.KeyDown).WithText("\r"), key(input.KeyUp))
}

// idle waits for the answer to end.
func (b *browser) idle() {
	b.t.Helper()
	b.until(`document.querySelector("#log").getAttribute("aria-busy") === "false" && document.querySelectorAll("article.assistant .bar").length > 0 && !document.querySelector(".waiting")`)
}

func TestChat(t *testing.T) {
	a := newAPI(t, "")
	a.replies["What is a danlu?"] = furnace
	b := open(t, a, "en-US")
	b.visit("/")
	b.until(`document.querySelector("#model").options.length === 2`)
	want(b, `document.querySelector(".welcome h1").textContent`, "What shall we refine today?")
	b.shoot("welcome")
	b.say("What is a danlu?")
	b.idle()
	want(b, `document.querySelectorAll(".answer ol > li").length`, 3)
	want(b, `document.querySelector(".md td.right").textContent`, "231.9 °C")
	want(b, `document.querySelector(".code code").textContent.split("\n").length`, 7)
	want(b, `document.querySelector(".code .c-k").textContent`, "func")
	want(b, `document.querySelector(".md strong").textContent`, "furnace")
	want(b, `document.querySelector(".md a").rel`, "noopener noreferrer nofollow")
	want(b, `document.querySelector(".bar .quiet").textContent.includes("tok/s")`, true)
	b.shoot("chat")
	b.dark(true)
	b.shoot("chat-dark")

	b.run(chromedp.Click(`article.assistant button[aria-label="Answer again"]`, chromedp.ByQuery))
	b.idle()
	b.until(`document.querySelector("article.assistant .bar").textContent.includes("2/2")`)
	b.run(chromedp.Click(`article.assistant button[aria-label="Previous version"]`, chromedp.ByQuery))
	b.until(`document.querySelector("article.assistant .bar").textContent.includes("1/2")`)

	// The conversation is there again after a reload, under the name of its first question.
	b.visit("/")
	b.until(`document.querySelectorAll("article").length === 2`)
	want(b, `document.querySelector(".talk[aria-current]").textContent`, "What is a danlu?")

	b.run(chromedp.Click("#new", chromedp.ByQuery))
	b.say("Second")
	b.idle()
	b.until(`document.querySelectorAll(".talk").length === 2`)
	want(b, `document.querySelector(".answer").textContent`, `Answer 3 to "Second".`)
}

// Nothing that a model writes becomes markup, loads anything or leads anywhere but to the web.
func TestModelTextIsText(t *testing.T) {
	a := newAPI(t, "")
	a.replies["attack"] = "<img src=x onerror=alert(1)> <script>alert(2)</script>\n\n![p](https://evil.example/a.png) [j](javascript:alert(3)) [d](data:text/html,x) <https://ok.example/>\n\n" +
		"`<b>` **<i>x</i>**\n\n```html\n<script>alert(4)</script>\n```\n\n| <a href=x> |\n|---|\n| <style>*{display:none}</style> |"
	b := open(t, a, "en-US")
	b.visit("/")
	b.until(`document.querySelector("#model").options.length === 2`)
	b.say("attack")
	b.idle()
	want(b, `document.querySelectorAll(".md script, .md img, .md i, .md b, .md style, .md iframe").length`, 0)
	want(b, `[...document.querySelectorAll(".md a")].map(a => a.href).join()`, "https://evil.example/a.png,https://ok.example/")
	want(b, `document.querySelector(".md p").textContent.includes("onerror=alert(1)")`, true)
}

// Deep, long and broken Markdown neither hangs nor throws.
func TestHostileMarkdown(t *testing.T) {
	a := newAPI(t, "")
	for name, reply := range map[string]string{"stars": strings.Repeat("*a", 20000), "quotes": strings.Repeat("> ", 5000) + "x", "lists": strings.Repeat("- ", 3000) + "x", "links": strings.Repeat("[", 9000),
		"ticks": strings.Repeat("`a", 9000), "pipes": strings.Repeat("|", 5000) + "\n" + strings.Repeat("|-", 5000), "blanks": strings.Repeat("# "+strings.Repeat(" ", 5000)+"x\n", 3), "dollars": strings.Repeat("$a", 9000)} {
		a.replies[name] = reply
	}
	b := open(t, a, "en-US")
	for name := range a.replies {
		b.visit("/")
		b.until(`document.querySelector("#model").options.length === 2`)
		b.run(chromedp.Click("#new", chromedp.ByQuery))
		b.say(name)
		b.idle()
		want(b, `document.querySelector(".answer").textContent.length > 0`, true)
	}
}

func TestThoughtsAndTools(t *testing.T) {
	a := newAPI(t, "")
	a.replies["weather?"] = "I should look it up. </think><call>get_weather {\"city\":\"杭州\"}"
	a.replies["21 °C"] = "It is **21 °C**."
	b := open(t, a, "en-US")
	b.visit("/")
	b.until(`document.querySelector("#model").options.length === 2`)
	b.run(chromedp.Click("#configure", chromedp.ByQuery), chromedp.SetValue("#system", "Be brief.", chromedp.ByQuery),
		chromedp.SetValue("#tools", `[{"type":"function","function":{"name":"get_weather","parameters":{"type":"object"}}}]`, chromedp.ByQuery))
	b.run(chromedp.SendKeys("#numbers label:first-child input", "0.7", chromedp.ByQuery))
	b.shoot("settings")
	b.run(chromedp.Click(`#choices button.main`, chromedp.ByQuery))
	b.say("weather?")
	b.idle()
	want(b, `document.querySelector(".thought").open`, false)
	want(b, `document.querySelector(".thought summary").textContent.startsWith("Thought for")`, true)
	b.run(chromedp.Click(".thought summary", chromedp.ByQuery))
	b.until(`document.querySelector(".thought .md").textContent === "I should look it up. "`)
	want(b, `document.querySelector(".call summary code").textContent`, "get_weather")
	want(b, `document.querySelector(".call pre").textContent`, "{\n  \"city\": \"杭州\"\n}")
	b.shoot("tool-call")
	b.run(chromedp.SendKeys(".call textarea", "21 °C", chromedp.ByQuery), chromedp.Click(".call form button", chromedp.ByQuery))
	b.until(`document.querySelectorAll("article.assistant").length === 2`)
	b.idle()
	want(b, `document.querySelector("article:last-child .answer").textContent`, "It is 21 °C.")
	ask := a.last()
	messages := ask["messages"].([]any)
	if len(messages) != 4 || text(messages[0]) != "Be brief." || messages[3].(map[string]any)["tool_call_id"] != "call_1" || ask["temperature"] != 0.7 {
		t.Errorf("the request: %v", ask)
	}
}

func TestCode(t *testing.T) {
	a := newAPI(t, "")
	a.replies["6 times 7?"] = "print(6 * 7)</code>It is 42."
	b := open(t, a, "en-US")
	b.visit("/")
	b.until(`document.querySelector("#model").options.length === 2`)
	b.run(chromedp.Click("#code", chromedp.ByQuery))
	want(b, `document.querySelector("#code").getAttribute("aria-pressed")`, "true")
	b.say("6 times 7?")
	b.idle()
	want(b, `[...document.querySelectorAll(".call pre")].map(e => e.textContent).join("|")`, "print(6 * 7)|42\n")
	want(b, `document.querySelector(".answer").textContent`, "It is 42.")
	if tools, _ := a.last()["tools"].([]any); len(tools) != 1 || tools[0].(map[string]any)["type"] != "code_interpreter" {
		t.Errorf("the request: %v", a.last())
	}
}

func TestStopEditContinue(t *testing.T) {
	a := newAPI(t, "")
	a.replies["long"] = "<slow>" + strings.Repeat("word ", 200)
	a.replies["cut"] = "<long>half an"
	a.replies["half an"] = " answer"
	a.replies["bad"] = "<error>messages: this is too much"
	b := open(t, a, "en-US")
	b.visit("/")
	b.until(`document.querySelector("#model").options.length === 2`)
	b.say("long")
	b.until(`document.querySelector(".answer")?.textContent.split(" ").length > 3`)
	want(b, `document.querySelector("#stop").hidden`, false)
	b.run(chromedp.KeyEvent(kb.Escape))
	b.idle()
	want(b, `document.querySelector(".end").textContent`, "Stopped.")
	want(b, `document.querySelector(".answer").textContent.split(" ").length < 100`, true)

	// An arrow up in the empty box edits the last message.
	b.run(chromedp.Focus("#ask", chromedp.ByQuery), chromedp.KeyEvent(kb.ArrowUp))
	b.run(chromedp.SetValue(".editor textarea", "cut", chromedp.ByQuery))
	b.enter()
	b.idle()
	b.until(`document.querySelector("article.user .bar").textContent.includes("2/2")`)
	want(b, `document.querySelector(".end").textContent`, "The answer ended at a limit.")
	b.run(chromedp.Click(`button[aria-label="Go on"]`, chromedp.ByQuery))
	b.idle()
	want(b, `document.querySelector(".answer").textContent`, "half an answer")
	if a.last()["continue_final_message"] != true {
		t.Errorf("the request: %v", a.last())
	}
	b.say("bad")
	b.until(`document.querySelector("article:last-child .end.bad") !== null`)
	want(b, `document.querySelector("article:last-child .end").textContent`, "No answer: messages: this is too much")
	b.forgive("400 (Bad Request)")
}

func TestPicturesModelsAndAdapters(t *testing.T) {
	a := newAPI(t, "")
	b := open(t, a, "en-US")
	b.visit("/")
	b.until(`document.querySelector("#model").options.length === 2`)
	want(b, `document.querySelector("#attach").hidden`, false)
	// A picture arrives as from the clipboard.
	b.run(chromedp.Evaluate(`(async () => {
		const canvas = document.createElement("canvas"); canvas.width = 2000; canvas.height = 1000;
		canvas.getContext("2d").fillRect(0, 0, 900, 900);
		const blob = await new Promise(r => canvas.toBlob(r, "image/png"));
		const data = new DataTransfer(); data.items.add(new File([blob], "a.png", { type: "image/png" }));
		document.querySelector("#ask").dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
	})()`, nil))
	b.until(`document.querySelectorAll("#pictures img").length === 1`)
	b.until(`document.querySelector("#pictures img").naturalWidth === 1280`)
	b.say("What is this?")
	b.idle()
	content := a.last()["messages"].([]any)[0].(map[string]any)["content"].([]any)
	if url := content[0].(map[string]any)["image_url"].(map[string]any)["url"].(string); !strings.HasPrefix(url, "data:image/png;base64,") {
		t.Errorf("the picture: %.60s", url)
	}
	want(b, `document.querySelectorAll("article.user img").length`, 1)

	want(b, `document.querySelector("#adapter").hidden`, false)
	choose := func(id, value string) {
		b.run(chromedp.Evaluate(`{ const s = document.querySelector("`+id+`"); s.value = "`+value+`"; s.dispatchEvent(new Event("change")); }`, nil))
	}
	choose("#adapter", "poet")
	want(b, `document.querySelector("#attach").hidden`, true)
	b.say("A poem")
	b.idle()
	if a.last()["model"] != "poet" {
		t.Errorf("the adapter is not asked for: %v", a.last()["model"])
	}
	choose("#model", "tiny-base")
	want(b, `document.querySelector("#adapter").hidden`, true)
	want(b, `document.querySelector("#room").textContent.includes("no chat template")`, true)
}

func TestChinesePhoneKeyboard(t *testing.T) {
	a := newAPI(t, "")
	a.replies["什么是丹炉？"] = "丹炉是炼丹用的**炉子**。它讲究三件事：\n\n- 火候要稳\n- 器皿要牢\n- 人要有耐心\n\n第一行\n第二行"
	b := open(t, a, "zh-CN")
	b.phone()
	b.visit("/")
	b.until(`document.querySelector("#model").options.length === 2`)
	want(b, `document.documentElement.lang`, "zh-CN")
	want(b, `document.querySelector(".welcome h1").textContent`, "今天炼点什么？")
	b.shoot("phone-welcome")
	b.run(chromedp.SendKeys("#ask", "什么是丹炉？", chromedp.ByQuery), chromedp.Click("#send", chromedp.ByQuery))
	b.idle()
	want(b, `document.querySelector(".md p:last-child").textContent`, "第一行第二行")
	want(b, `document.documentElement.scrollWidth <= 390`, true)
	b.shoot("phone-chat")
	want(b, `document.querySelector("#side").inert`, true)
	b.run(chromedp.Click("#menu", chromedp.ByQuery))
	b.until(`getComputedStyle(document.querySelector("#side")).visibility === "visible"`)
	want(b, `document.activeElement.id`, "shut")
	b.shoot("phone-side")
	b.run(chromedp.KeyEvent(kb.Escape))
	b.until(`!document.body.classList.contains("open")`)
	b.run(chromedp.Click("#menu", chromedp.ByQuery), chromedp.Click("#language", chromedp.ByQuery))
	b.until(`document.documentElement.lang === "en"`)
	want(b, `document.querySelector("#new span").textContent`, "New chat")
}

// Every control has a name for those who hear the page, and is reached by the keyboard.
func TestNamesAndFocus(t *testing.T) {
	a := newAPI(t, "")
	b := open(t, a, "en-US")
	b.visit("/")
	b.until(`document.querySelector("#model").options.length === 2`)
	b.say("hello")
	b.idle()
	want(b, `[...document.querySelectorAll("button, input, select, textarea, a, summary")].filter(e => e.offsetParent && !(e.getAttribute("aria-label") || e.textContent.trim() || e.labels?.length)).map(e => e.outerHTML).join()`, "")
	b.run(chromedp.Evaluate(`document.activeElement.blur()`, nil), chromedp.KeyEvent("/"))
	want(b, `document.activeElement.id`, "ask")
	b.run(chromedp.Evaluate(`document.activeElement.blur()`, nil), chromedp.KeyEvent("?"))
	b.until(`document.querySelector("#keys").open`)
	b.shoot("keyboard")
	b.run(chromedp.KeyEvent(kb.Escape))
	b.until(`!document.querySelector("#keys").open`)
	b.run(chromedp.Evaluate(`window.scrollTo(0, 0); document.activeElement.blur()`, nil), chromedp.KeyEvent(kb.Tab))
	want(b, `document.activeElement.className`, "skip")
}

func TestKey(t *testing.T) {
	a := newAPI(t, "")
	a.key = "secret"
	b := open(t, a, "en-US")
	b.visit("/")
	b.until(`document.querySelector("dialog[open] input[type=password]") !== null`)
	b.run(chromedp.SendKeys("dialog[open] input", "wrong", chromedp.ByQuery))
	b.enter()
	b.until(`document.querySelector("dialog[open] p.bad") !== null`)
	b.run(chromedp.SendKeys("dialog[open] input", "secret", chromedp.ByQuery))
	b.enter()
	b.until(`document.querySelector("#model").options.length === 2 && !document.querySelector("dialog[open]")`)
	b.say("hi")
	b.idle()
	b.forgive("401 (Unauthorized)")
}
