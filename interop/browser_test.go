package interop_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
)

// takePictures has the browser tests write what they see to docs/pictures.
var takePictures = flag.Bool("pictures", false, "write docs/pictures anew")

// browser is one Chromium with one empty profile, as somebody new has it. It runs
// scripts only because tests ask it to: the pages have none.
type browser struct {
	t   *testing.T
	ctx context.Context
	axe string // axe-core, as a script
}

// startBrowser starts Debian's chromium. A machine without it fails: what people
// see is part of what is promised.
func startBrowser(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("chromium is not installed, and these tests look at pages with it: apt-get install chromium (%v)", err)
	}
	axe, err := os.ReadFile("node_modules/axe-core/axe.min.js")
	if err != nil {
		t.Fatalf("interop/node_modules is missing or stale: run `make interop`, or `npm ci` in interop/ (%v)", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:], chromedp.ExecPath(path), chromedp.UserDataDir(t.TempDir()))
	if os.Getuid() == 0 {
		options = append(options, chromedp.NoSandbox) // Chromium's sandbox refuses root, as CI has it
	}
	ctx, end := chromedp.NewExecAllocator(t.Context(), options...)
	t.Cleanup(end)
	ctx, end = chromedp.NewContext(ctx)
	t.Cleanup(end)
	b := &browser{t: t, ctx: ctx, axe: string(axe)}
	// The first call starts the browser, and must have no time limit of its own.
	if err := chromedp.Do(ctx, chromedp.EmulateViewport(1280, 800)); err != nil {
		t.Fatalf("starting chromium: %v", err)
	}
	return b
}

// do runs actions, and fails with what the page said then.
func (b *browser) do(what string, actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, runLimit)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatalf("%s: %v\nat %s:\n%s", what, err, evaluate[string](b, "location.href"), evaluate[string](b, "document.body.innerText"))
	}
}

// evaluate asks the page for the value of an expression.
func evaluate[T any](b *browser, expression string) T {
	b.t.Helper()
	value, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	if err != nil {
		b.t.Fatalf("%.80s: %v", expression, err)
	}
	return value
}

// open goes to an address and waits for the page.
func (b *browser) open(address string) {
	b.t.Helper()
	b.do("opening "+address, chromedp.Navigate(address))
}

// see waits until the page has something that fits the selector.
func (b *browser) see(selector string) {
	b.t.Helper()
	b.do("waiting for "+selector, chromedp.WaitVisible(chromedp.CSS(selector)))
}

// heading waits for a page with this first heading.
func (b *browser) heading(text string) {
	b.t.Helper()
	b.do("waiting for the page "+text, chromedp.WaitVisible(chromedp.Search(fmt.Sprintf("//h1[.=%q]", text))))
}

// fill types into the field of an id.
func (b *browser) fill(id, text string) {
	b.t.Helper()
	b.do("filling in "+id, chromedp.SendKeys(chromedp.CSS("#"+id), text))
}

// click presses the first button, link or label that has this text in it.
func (b *browser) click(text string) {
	b.t.Helper()
	b.do("clicking "+text, chromedp.Click(chromedp.Search(fmt.Sprintf("(//button|//a|//label)[contains(.,%q)]", text))))
}

// text is all that the page says.
func (b *browser) text() string { return evaluate[string](b, "document.body.innerText") }

// focused names what has the focus: the text of a button or link, or the id.
func (b *browser) focused() string {
	return evaluate[string](b, "(e => e.id || e.innerText || e.tagName)(document.activeElement)")
}

// tabTo presses Tab until the focus is where it shall be.
func (b *browser) tabTo(target string) {
	b.t.Helper()
	var seen []string
	for range 30 {
		now := b.focused()
		// What has the focus has to be seen to have it.
		if now == target && evaluate[string](b, "getComputedStyle(document.activeElement).outlineStyle") == "none" {
			b.t.Errorf("nothing shows that %s has the focus", target)
		}
		if now == target {
			return
		}
		seen = append(seen, now)
		b.do("pressing Tab", chromedp.KeyEvent(kb.Tab))
	}
	b.t.Fatalf("Tab never reached %q, only %q", target, seen)
}

func (b *browser) press(key string) {
	b.t.Helper()
	b.do("pressing a key", chromedp.KeyEvent(key))
}

// screens are what pages are looked at on.
var screens = []struct {
	name          string
	width, height int64
	scheme        string
}{
	{"desktop-light", 1280, 800, "light"},
	{"desktop-dark", 1280, 800, "dark"},
	{"phone-light", 390, 844, "light"},
	{"phone-dark", 390, 844, "dark"},
}

// look examines the page on every screen: axe finds nothing, nothing has to be
// scrolled sideways, and what is pressed is large enough for a thumb. With
// -pictures it keeps what it saw, when name is not empty.
func (b *browser) look(name string) {
	b.t.Helper()
	for _, s := range screens {
		b.do("switching to "+s.name, chromedp.EmulateViewport(s.width, s.height), scheme(s.scheme))
		if wide := evaluate[int](b, "document.documentElement.scrollWidth"); int64(wide) > s.width {
			b.t.Errorf("%s on %s is %d pixels wide", name, s.name, wide)
		}
		if small := evaluate[[]string](b, `[...document.querySelectorAll("button,a,label.choice")].filter(e => e.getBoundingClientRect().height < 24).map(e => e.innerText)`); len(small) > 0 {
			b.t.Errorf("%s on %s: too small to press (WCAG 2.2, 2.5.8): %q", name, s.name, small)
		}
		b.audit(name + " on " + s.name)
		if *takePictures && name != "" {
			b.keep(filepath.Join("..", "docs", "pictures", name+"-"+s.name+".png"))
		}
	}
	b.do("switching back", chromedp.EmulateViewport(1280, 800), scheme("light"))
}

func scheme(value string) chromedp.Action[chromedp.Void] {
	return chromedp.Func(func(ctx context.Context, t *chromedp.Target) error {
		_, err := cdp.Call(ctx, t, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: value}}})
		return err
	})
}

// violation is what axe finds.
type violation struct {
	ID    string `json:"id"`
	Help  string `json:"help"`
	Nodes []struct {
		HTML    string `json:"html"`
		Summary string `json:"failureSummary"`
	} `json:"nodes"`
}

// audit runs axe-core with all its rules but those marked experimental.
func (b *browser) audit(where string) {
	b.t.Helper()
	if _, err := chromedp.Run(b.ctx, chromedp.Evaluate[chromedp.Void](b.axe+";void 0")); err != nil {
		b.t.Fatalf("loading axe: %v", err)
	}
	found, err := chromedp.Run(b.ctx, chromedp.Evaluate[struct {
		Violations []violation `json:"violations"`
		Passes     []any       `json:"passes"`
	}]("axe.run(document)", chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("axe: %v", err)
	}
	if len(found.Passes) < 10 {
		b.t.Errorf("%s: axe looked at nothing", where)
	}
	for _, v := range found.Violations {
		for _, n := range v.Nodes {
			b.t.Errorf("%s: %s (%s): %s\n%s", where, v.Help, v.ID, n.HTML, n.Summary)
		}
	}
}

// keep writes a picture of the whole page.
func (b *browser) keep(path string) {
	b.t.Helper()
	taken, err := chromedp.Run(b.ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatal(err)
	}
	picture, err := png.Decode(bytes.NewReader(taken))
	if err != nil {
		b.t.Fatal(err)
	}
	var small bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	err = encoder.Encode(&small, fewerColours(picture))
	if err == nil {
		err = os.MkdirAll(filepath.Dir(path), 0o755)
	}
	if err == nil {
		err = os.WriteFile(path, small.Bytes(), 0o644)
	}
	if err != nil {
		b.t.Fatal(err)
	}
}

// fewerColours keeps the 64 colours that a picture has most of, which makes it a
// third of its size: pages have few, and the edges of letters many.
func fewerColours(picture image.Image) *image.Paletted {
	count := map[color.Color]int{}
	bounds := picture.Bounds()
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			count[picture.At(x, y)]++
		}
	}
	all := slices.SortedFunc(maps.Keys(count), func(a, b color.Color) int { return count[b] - count[a] })
	reduced := image.NewPaletted(bounds, color.Palette(all[:min(len(all), 64)]))
	nearest := map[color.Color]uint8{}
	for c := range count {
		nearest[c] = uint8(reduced.Palette.Index(c))
	}
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			reduced.SetColorIndex(x, y, nearest[picture.At(x, y)])
		}
	}
	return reduced
}

// mustSay holds what the page says against what it has to say.
func (b *browser) mustSay(parts ...string) {
	b.t.Helper()
	text := b.text()
	for _, part := range parts {
		if !strings.Contains(text, part) {
			b.t.Errorf("the page does not say %q:\n%s", part, text)
		}
	}
}
