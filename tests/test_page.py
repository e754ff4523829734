"""Web pages: what they hold, and in a real browser what they show. Numbers are compared with Python's."""

import json
import math
import re
from pathlib import Path

import browser as chromium
import numpy as np
import pytest

import tinygrad_z2g as z2g
from tinygrad_z2g import nn, optim
from tinygrad_z2g.models import GPT, GPTConfig
from tinygrad_z2g.nn import functional as F
from tinygrad_z2g.text import CharTokenizer
from tinygrad_z2g.tools.explain import story
from tinygrad_z2g.tools.page.document import Page, check_path

ROOT = Path(__file__).parent.parent
WEB = Path(z2g.__file__).parent / "tools" / "page" / "web"
LETTERS = "abcdefgh<>/script ()1.\n\"'&é😀"
EXAMPLE = ROOT / "examples" / "pictures" / "backprop.html"


@pytest.fixture(scope="module")
def driver():
    if reason := chromium.missing():
        pytest.skip(reason)
    with chromium.chromium() as found:
        yield found


@pytest.fixture
def browser(driver):
    """A browser in which no page has complained on the console, before and after the test."""
    driver.driver.get("about:blank")
    driver.screen()
    driver.complaints()
    yield driver
    assert driver.complaints() == []


def gpt(seed=0, std=0.2, **sizes):
    """A GPT whose answers are far from uniform, and its tokenizer."""
    z2g.manual_seed(seed)
    tokenizer = CharTokenizer(LETTERS)
    config = {"context": 12, "layers": 2, "heads": 2, "width": 16, **sizes}
    model = GPT(GPTConfig(len(tokenizer), **config))
    for p in model.parameters():
        nn.init.normal_(p, std=std)
    return model.eval(), tokenizer


def data_of(page):
    """What Python has put into a page."""
    (text,) = re.findall(r'<script type="application/json" id="data">(.*)</script>', page.html())
    return json.loads(text)


# --- The file ----------------------------------------------------------------------------------------------------


def test_the_parts_are_short_enough_to_read_and_explained():
    files = sorted(WEB.iterdir())
    assert {path.suffix for path in files} == {".html", ".css", ".js"} and len(files) > 12
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert len(text.splitlines()) < 400 and max(map(len, text.splitlines())) <= 120, path
        if path.suffix != ".html":
            assert re.match(r'("use strict";\n)?/\* \S', text), f"{path.name} does not say what it is"


def test_the_parts_are_installed():
    assert "    tools/page/web/*\n" in (ROOT / "setup.cfg").read_text(encoding="utf-8")


def pages():
    """One of each kind."""
    model, tokenizer = gpt()
    w = z2g.tensor([1.0, 2.0], requires_grad=True)
    with z2g.watch(nn.Linear(1, 1)) as seen:
        seen.model(z2g.ones(1, 1)).sum().backward()
    return [z2g.page(model, tokenizer), z2g.play((w * w).sum()), seen.page()]


def test_nothing_is_loaded_from_outside():
    for page in pages():
        text = page.html()
        assert set(re.findall(r"https?://[^\"' ]*", text)) <= {"http://www.w3.org/2000/svg"}
        (policy,) = re.findall(r'http-equiv="Content-Security-Policy" content="(.*)"', text)
        assert policy.startswith("default-src 'none'; script-src 'sha256-") and "unsafe" not in policy
        assert not re.search(r"<(link|img|iframe|object|base)\b|\b(src|href|style|onclick)=", text.split("<script")[0])


def test_what_python_puts_in_cannot_end_the_element():
    page = Page("</title><script>", "run", ["chart.js"], {"a": "</script><script>alert(1)</script><!-- "})
    assert data_of(page) == {"a": "</script><script>alert(1)</script><!-- "}
    assert page.html().count("<script") == 3 and "<title>&lt;/title&gt;&lt;script&gt;</title>" in page.html()
    frame = page._repr_html_()
    assert frame.startswith('<iframe sandbox="allow-scripts" title="&lt;/title') and "<script" not in frame


def test_paths(tmp_path):
    with pytest.raises(ValueError, match=r"expected a file name that ends in \.html, got 'a\.png'"):
        check_path("a.png")
    with pytest.raises(TypeError, match=r"expected a file name such as 'page\.html', got int"):
        check_path(3)
    page = Page("t", "run", [], {})
    with pytest.raises(OSError, match=r"cannot write '.*none/a\.html': No such file or directory; name a file in a"):
        page.save(tmp_path / "none" / "a.html")
    page.save(tmp_path / "a.html")
    assert (tmp_path / "a.html").read_text(encoding="utf-8") == page.html()
    assert repr(page).startswith("<page: t, 0.0")


# --- The model: Python -------------------------------------------------------------------------------------------


def test_models_and_tokenizers_that_do_not_fit(tmp_path):
    model, tokenizer = gpt()
    cases = [
        (TypeError, (nn.Linear(2, 2), tokenizer), r"expected a models\.GPT, got Linear; a page holds GPTs of up to"),
        (TypeError, (GPT, tokenizer), r"expected a models\.GPT, got GPT"),
        (TypeError, (model, "abc"[0:0].join), "expected a tokenizer such as text.CharTokenizer"),
        (ValueError, (model, CharTokenizer("ab")), r"the tokenizer has 2 letters, the model \d+; pass its own"),
    ]
    for kind, args, message in cases:
        with pytest.raises(kind, match=f"^page: {message}") as caught:
            z2g.page(*args)
        assert "\n" not in str(caught.value)

    class Pairs(CharTokenizer):
        def decode(self, ids):
            return "ab" if ids == [3] else super().decode(ids)

    with pytest.raises(ValueError, match=r"one letter for each number, but it has 'ab'"):
        z2g.page(model, Pairs(LETTERS))
    for setting in (
        {"temperature": -1}, {"temperature": math.nan}, {"top_k": 0}, {"tokens": 0}, {"seed": -1}, {"seed": 1.5},
    ):  # fmt: skip
        with pytest.raises(ValueError, match=f"page: {next(iter(setting))} must be"):
            z2g.page(model, tokenizer, **setting)
    with pytest.raises(ValueError, match=r"the prompt has 'Z', which the tokenizer does not know"):
        z2g.page(model, tokenizer, prompt="aZ")
    with pytest.raises(ValueError, match=r"ends in .html"):
        z2g.page(model, tokenizer, tmp_path / "gpt.txt")
    model.blocks[1].mlp[2].bias.data[0] = math.nan
    with pytest.raises(ValueError, match=r"blocks\.1\.mlp\.2\.bias holds nan or infinite numbers"):
        z2g.page(model, tokenizer)
    model.blocks[1].mlp = nn.Sequential(nn.Linear(16, 16))
    with pytest.raises(TypeError, match=r"other parts than models.GPT makes"):
        z2g.page(model, tokenizer)


def test_a_model_that_is_too_large_is_refused(monkeypatch):
    from tinygrad_z2g.tools.page import model as home

    monkeypatch.setattr(home, "LARGEST", 1000)
    with pytest.raises(ValueError, match=r"[\d,]+ weights are too large for a web page, which holds up to 1,000"):
        z2g.page(*gpt())


def test_the_model_of_step_18_takes_less_than_3_megabytes():
    tokenizer = CharTokenizer("".join(map(chr, range(32, 92))))
    model = GPT(GPTConfig(60, context=64, layers=3, heads=4, width=128))
    assert len(z2g.page(model, tokenizer).html().encode()) < 3e6


def test_a_page_is_the_same_from_every_device(device):
    model, tokenizer = gpt()
    text = z2g.page(model, tokenizer).html()
    assert data_of(z2g.page(model.to("cpu"), tokenizer)) == json.loads(json.dumps(data_of(z2g.page(model, tokenizer))))
    assert len(text) > 10_000 and next(model.parameters()).grad is None


# --- The model: in the browser -----------------------------------------------------------------------------------


def scores_of(model, ids):
    with z2g.no_grad():
        return model(z2g.tensor([ids]))[0][0].numpy()


def attention_of(model, ids):
    """Weights of each head for the last position, block after block, and the streams after each: in NumPy's words."""
    x = model.token_embedding(z2g.tensor([ids])) + model.position_embedding.weight[: len(ids)]
    looks, streams = [], [x]
    for block in model.blocks:
        heads = block.attention.num_heads
        q, k, _ = np.split(block.attention.qkv(block.norm1(x)).detach().numpy()[0].astype(np.float64), 3, axis=-1)
        for a, b in zip(np.split(q, heads, axis=-1), np.split(k, heads, axis=-1), strict=True):
            scores = np.exp(a[-1] @ b.T / math.sqrt(a.shape[-1]))
            looks.append(scores / scores.sum())
        x = block(x)
        streams.append(x)
    lens = [model.head(model.norm(stream))[0, -1].softmax(-1).detach().numpy() for stream in streams]
    return looks, lens


@pytest.mark.parametrize("sizes", [
    {}, {"layers": 1, "heads": 1, "width": 7}, {"bias": False, "tied": False}, {"context": 1},
    {"context": 64, "layers": 3, "heads": 4, "width": 128, "std": 0.1},
    {"context": 16, "heads": 2, "width": 12, "rotary": True, "rope_base": 200.0},
], ids=["small", "odd", "untied", "one", "step 18", "rotary"])  # fmt: skip
def test_logits_are_those_of_python(browser, tmp_path, sizes):
    model, tokenizer = gpt(**sizes)
    z2g.page(model, tokenizer, tmp_path / "gpt.html")
    browser.open(tmp_path / "gpt.html")
    n = model.config.context
    ids = np.random.default_rng(1).integers(0, len(tokenizer), n).tolist()
    expected = scores_of(model, ids)
    assert expected.std() > 0.1
    whole = browser.run("return Array.from(network.forward(arguments[0], network.start(), true))", ids)
    np.testing.assert_allclose(np.reshape(whole, expected.shape), expected, atol=1e-3, rtol=0)
    steps = browser.run("""
        const cache = network.start(), [ids, first] = arguments;
        const found = [Array.from(network.forward(ids.slice(0, first), cache))];
        for (const id of ids.slice(first)) found.push(Array.from(network.forward([id], cache)));
        return found""", ids, (n + 1) // 2)
    np.testing.assert_allclose(steps, expected[(n + 1) // 2 - 1 :], atol=1e-3, rtol=0)


def test_the_pieces_are_those_of_python(browser, tmp_path):
    """Where a whole network would hide a small fault: far from zero, and where there is almost no variance."""
    z2g.page(*gpt(), tmp_path / "gpt.html")
    browser.open(tmp_path / "gpt.html")
    x = z2g.tensor([-20.0, -3.0, -1.5, -0.5, 0.0, 0.5, 1.5, 2.5, 20.0], dtype=z2g.float64)
    found = browser.run("return Array.from(gelu(Float64Array.from(arguments[0])))", x.tolist())
    np.testing.assert_allclose(found, F.gelu(x, "tanh").tolist(), atol=1e-12)
    row, scale, shift = z2g.tensor([[0.001, 0.003, -0.002]], dtype=z2g.float64), [1.0, 2.0, 3.0], [0.5, 0.0, -0.5]
    code = "return Array.from(layerNorm(arguments[0], 1, arguments[1], arguments[2], 1e-5))"
    expected = F.layer_norm(row, (3,), *(z2g.tensor(v, dtype=z2g.float64) for v in (scale, shift)))[0].tolist()
    np.testing.assert_allclose(browser.run(code, row.tolist()[0], scale, shift), expected, rtol=1e-9)
    found = browser.run("return Array.from(softmax([1000, 999, -1000]))")
    np.testing.assert_allclose(found, [1 / (1 + math.exp(-1)), 1 / (1 + math.e), 0], rtol=1e-9)


def test_numbers_are_written_as_python_writes_them(browser, tmp_path):
    net()["page"].save(tmp_path / "play.html")
    browser.open(tmp_path / "play.html")
    numbers = [0, 1, -1, 0.1, 12346, 123456, 1e-4, 9.9996e-5, 0.00012346, 9999.6, 1e20, -2.5e-7, 1 / 3, 100, 1e100]
    found = browser.run("return arguments[0].map(x => digits(x))", numbers)
    assert found == [f"{x:.4g}" for x in numbers]


def test_the_dice_are_numpy_s(browser, tmp_path):
    z2g.page(*gpt(), tmp_path / "gpt.html")
    browser.open(tmp_path / "gpt.html")
    for seed in (0, 1, 42, 2**32 - 1, 2**32, 2**53 - 1):
        found = browser.run("const dice = new Dice(arguments[0]); return [1, 2, 3, 4, 5].map(() => dice.roll())", seed)
        assert found == np.random.Generator(np.random.PCG64(seed)).random(5).tolist()


def typed(browser, text):
    """Type a beginning as a reader does (selenium has no keys for emoji)."""
    browser.run("""
        const field = document.getElementById("beginning");
        field.value = arguments[0];
        field.dispatchEvent(new Event("input", { bubbles: true }));""", text)


def setting(browser, name, value):
    browser.run("""
        const field = document.getElementById(arguments[0]);
        field.value = arguments[1];
        field.dispatchEvent(new Event("input", { bubbles: true }));""", name, str(value))


def chosen(browser, name, value):
    browser.run("""
        const list = document.getElementById(arguments[0]);
        list.value = arguments[1];
        list.dispatchEvent(new Event("change"));""", name, value)


def write(browser, letters, temperature=0, top_k=0, seed=1):
    """Press the button, and return the whole text when it is written."""
    for name, value in {"temperature": temperature, "top-k": top_k, "seed": seed, "letters": letters}.items():
        setting(browser, name, value)
    browser.find("#write").click()
    browser.until("return !document.getElementById('write').disabled")
    return browser.text("#text")


@pytest.mark.parametrize("settings", [
    {"temperature": 0}, {"temperature": 1, "seed": 5}, {"temperature": 0.8, "top_k": 3, "seed": 2**40},
], ids=["greedy", "sampled", "top_k"])  # fmt: skip
def test_it_writes_what_generate_writes(browser, tmp_path, settings):
    """Past the context too, where the window slides. A seed gives the same letters as in Python."""
    model, tokenizer = gpt()
    z2g.page(model, tokenizer, tmp_path / "gpt.html", prompt="cat")
    browser.open(tmp_path / "gpt.html")
    keywords = {**settings, "generator": z2g.Generator(settings.get("seed", 1))}
    keywords.pop("seed", None)
    expected = tokenizer.decode(model.generate(tokenizer.encode("cat").unsqueeze(0), 40, **keywords)[0])
    assert len(set(expected)) > 2
    assert write(browser, 40, **settings) == expected
    assert re.fullmatch(r"first letter after \d+ ms, \d+ letters per second", browser.text("#speed"))
    assert browser.text("#said") == f"Written: {expected[3:]}"
    if settings["temperature"] == 0:
        browser.find("#more").click()
        browser.until("return !document.getElementById('more').disabled && writer.ids.length === 83")
        again = model.generate(tokenizer.encode("cat").unsqueeze(0), 80, temperature=0)
        assert browser.text("#text") == tokenizer.decode(again[0])


def test_surprise_is_the_cross_entropy(browser, tmp_path):
    model, tokenizer = gpt()
    text = "the<script>alert(1)</script>\n😀é".replace("t", "c").replace("l", "a")
    text = "".join(c for c in text if c in LETTERS)
    z2g.page(model, tokenizer, tmp_path / "gpt.html", prompt=text)
    browser.open(tmp_path / "gpt.html")
    ids, context = tokenizer.encode(text).tolist(), model.config.context
    assert len(ids) > 2 * context
    bits = []
    for i in range(1, len(ids)):
        scores = scores_of(model, ids[max(0, i - context) : i])[-1].astype(np.float64)
        bits.append(-math.log2(np.exp(scores)[ids[i]] / np.exp(scores).sum()))
    browser.until("return writer.bits.slice(1).every(x => x !== null)")
    found = browser.run("return writer.bits")
    assert found[0] is None
    np.testing.assert_allclose(found[1:], bits, atol=2e-3)
    told = f"{np.mean(bits):.2f} bits per letter"
    browser.until(f"return document.getElementById('bits').textContent.startsWith('{told}')")
    assert f"{len(bits)} letters take about {math.ceil(sum(bits) / 8)} bytes" in browser.text("#bits")
    shown = variables(browser, "#text span", "--bits")
    np.testing.assert_allclose([float(x) for x in shown[1:]], np.minimum(bits, 8), atol=0.01)


def variables(browser, selector, name):
    """A CSS variable of each element, which says how it is coloured or how long it is."""
    code = "return [...document.querySelectorAll(arguments[0])].map(x => x.style.getPropertyValue(arguments[1]))"
    return browser.run(code, selector, name)


def test_a_letter_that_is_pointed_at(browser, tmp_path):
    """What comes next, where the heads look, what each block would say: all against Python."""
    model, tokenizer = gpt()
    z2g.page(model, tokenizer, tmp_path / "gpt.html", prompt="abcdefgh()abc")
    browser.open(tmp_path / "gpt.html")
    browser.hover(browser.all("#text span")[6])
    browser.until("return page.chosen === 6")
    ids = tokenizer.encode("abcdefg").tolist()
    looks, lens = attention_of(model, ids)
    p = lens[-1]
    ranked = sorted(range(len(p)), key=lambda i: -p[i])
    widths = variables(browser, "#next .bar", "--p")
    np.testing.assert_allclose([float(x) for x in widths[:8]], [p[i] for i in ranked[:8]], atol=1e-3)
    rank = ranked.index(tokenizer.encode("h").item()) + 1
    assert f"After letter 7, “g”. “h” came: number {rank} of {len(p)}" in browser.text("#next-hint")
    cells = browser.run("""
        return [...document.querySelectorAll('#heads tbody tr')].map(row =>
            [...row.querySelectorAll('td')].map(x => Number(x.style.getPropertyValue('--p'))))""")
    np.testing.assert_allclose(cells, [row / row.max() for row in looks], atol=2e-3)
    cells = browser.run("""
        return [...document.querySelectorAll('#lens tr')].map(row =>
            [...row.querySelectorAll('td')].map(x => Number(x.style.getPropertyValue('--p'))))""")
    np.testing.assert_allclose(cells, [sorted(row, reverse=True)[:5] for row in lens], atol=1e-3)
    assert browser.text("#letters-map g.now text") == "g"
    browser.all("#heads button")[3].click()  # block 2, head 2
    framed = browser.run("""
        return [...document.querySelectorAll('#text span')].map(x =>
            x.classList.contains('looked') ? Number(x.style.getPropertyValue('--look')) : null)""")
    np.testing.assert_allclose(framed[:7], looks[3] / looks[3].max(), atol=0.01)
    assert framed[7:] == [None] * 6 and browser.all("#heads button")[3].get_attribute("aria-pressed") == "true"
    assert re.match(r"block 2, head 2: .+ \d+ %", browser.all("#heads button")[3].get_attribute("aria-label"))


def test_text_of_users_and_models_is_shown_and_not_obeyed(browser, tmp_path):
    model, tokenizer = gpt()
    script = "<script>hacced()</script>".replace("k", "c")
    z2g.page(model, tokenizer, tmp_path / "gpt.html", prompt=script, title="<img src=x onerror=hacced()>")
    browser.open(tmp_path / "gpt.html")
    browser.run("window.hacced = () => { window.was = true; }")
    assert browser.text("#text") == script and browser.text("#title").startswith("<img src=x")
    assert write(browser, 30).startswith(script)
    typed(browser, "<b>Zz")
    browser.until("return document.getElementById('trouble').textContent")
    trouble = browser.text("#trouble")
    assert trouble.startswith("“b”" if "b" not in LETTERS else "“Z”, “z” are not among the") and "␣" in trouble
    typed(browser, "")
    browser.until("return document.getElementById('trouble').textContent.startsWith('Type at least one letter')")
    typed(browser, "😀é")
    browser.until("return document.getElementById('text').textContent === '😀é'")
    assert len(browser.all("#text span")) == 2  # letters as Python counts them
    assert not browser.run("return window.was || document.querySelector('#text b, #text script, h1 img')")


def test_the_page_may_not_reach_outside(driver, tmp_path):
    z2g.page(*gpt(), tmp_path / "gpt.html")
    driver.open(tmp_path / "gpt.html")
    violated = driver.driver.execute_async_script("""
        const done = arguments[0], seen = [];
        document.addEventListener('securitypolicyviolation', event => seen.push(event.effectiveDirective));
        fetch('http://127.0.0.1:9/').catch(() => {});
        const image = document.createElement('img');
        image.src = 'http://127.0.0.1:9/a.png';
        const script = document.createElement('script');
        script.textContent = 'window.was = true';
        const inline = document.createElement('div');
        inline.setAttribute('onclick', 'window.was = true');
        document.body.append(image, script, inline);
        inline.click();
        setTimeout(() => done([seen, window.was]), 500);""")
    assert not violated[1]
    assert {"connect-src", "img-src", "script-src-elem", "script-src-attr"} <= set(violated[0])
    assert driver.complaints()  # the browser said so, too


def test_keyboard_and_screen_reader(browser, tmp_path):
    from selenium.webdriver import Keys

    z2g.page(*gpt(), tmp_path / "gpt.html", prompt="ab cd")
    browser.open(tmp_path / "gpt.html")
    browser.run("document.getElementById('text').focus()")
    browser.keys(Keys.HOME)
    assert browser.run("return page.chosen") == 0
    browser.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    active = browser.find("#text").get_attribute("aria-activedescendant")
    letter = browser.find(f"#{active}")
    assert letter.get_attribute("aria-selected") == "true" and letter.get_attribute("role") == "option"
    assert re.fullmatch(r"space, [\d.]+ bits", letter.get_attribute("aria-label"))
    browser.keys(Keys.END)
    assert browser.run("return page.chosen") == 4
    assert named(browser)


def named(browser):
    """Every field and button has a name that can be read out, and every heading and region stands in order."""
    nameless = browser.run("""
        const all = 'button, select, input, textarea, [role=button], [role=region], svg[role]';
        return [...document.querySelectorAll(all)]
            .filter(x => !(x.getAttribute('aria-label') || x.textContent.trim() || x.labels?.length))
            .map(x => x.outerHTML.slice(0, 100))""")
    levels = browser.run("return [...document.querySelectorAll('h1, h2, h3')].map(x => Number(x.tagName[1]))")
    assert nameless == [] and levels[0] == 1 and all(b - a <= 1 for a, b in zip(levels, levels[1:], strict=False))  # noqa: RUF007
    return True


def test_stop_and_a_new_beginning(browser, tmp_path):
    z2g.page(*gpt(), tmp_path / "gpt.html", prompt="a")
    browser.open(tmp_path / "gpt.html")
    setting(browser, "letters", 5000)
    browser.find("#write").click()
    browser.until("return writer.ids.length > 3")
    browser.find("#stop").click()
    browser.until("return !document.getElementById('write').disabled")
    assert 3 < browser.run("return writer.ids.length") < 5001
    browser.find("#more").click()
    typed(browser, "abc")  # while it writes
    browser.until("return document.getElementById('text').textContent === 'abc'")
    browser.until("return !document.getElementById('write').disabled && page.chosen === 2")


@pytest.mark.parametrize("button", ["write", "more"])
def test_a_button_pressed_at_once_after_the_last_letter(browser, tmp_path, button):
    """As a phone's keyboard does it, which hands over the last word when the finger leaves it."""
    z2g.page(*gpt(), tmp_path / "gpt.html", prompt="a")
    browser.open(tmp_path / "gpt.html")
    setting(browser, "letters", 40)
    browser.run("""
        const beginning = document.getElementById("beginning");
        beginning.value = "abc";
        beginning.dispatchEvent(new Event("input"));
        document.getElementById(arguments[0]).click();
        setTimeout(() => { window.later = true; }, 400)""", button)  # fmt: skip
    browser.until("return window.later && !document.getElementById('write').disabled")
    assert browser.run("return writer.ids.length") == 43
    assert len(browser.text("#text")) == 43 and browser.text("#text").startswith("abc")


def contrast(browser, selector):
    """Of the letters of an element to what is behind them, by the rule of the WCAG."""
    ink, paper = browser.run("""
        const x = document.querySelector(arguments[0]);
        let y = x;
        while (getComputedStyle(y).backgroundColor === 'rgba(0, 0, 0, 0)') y = y.parentElement;
        return [getComputedStyle(x).color, getComputedStyle(y).backgroundColor]""", selector)  # fmt: skip
    lights = []
    for text in (ink, paper):
        rgb = np.array([float(v) for v in re.findall(r"[\d.]+", text)[:3]]) / 255
        linear = np.where(rgb <= 0.03928, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
        lights.append(float(linear @ [0.2126, 0.7152, 0.0722]))
    return (max(lights) + 0.05) / (min(lights) + 0.05)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_it_can_be_read_and_fits_a_phone(browser, tmp_path, dark):
    """All three pages: no page is wider than the screen, and words stand out."""
    for i, page in enumerate(pages()):
        page.save(tmp_path / f"{i}.html")
        for width in (360, 1280):
            browser.screen(width, 740, dark)
            browser.open(tmp_path / f"{i}.html")
            assert browser.run("return document.documentElement.scrollWidth") <= width
            assert named(browser)
            for selector in ("h1", ".faint", "button.main, button"):
                assert contrast(browser, selector) > 4.5, (i, selector)


# --- Backprop, step by step --------------------------------------------------------------------------------------


def net():
    """The two-layer net of the README, as its page is made."""
    x, y = z2g.tensor([[1.0, 2.0]]), z2g.tensor([[1.0]])
    w1 = z2g.tensor([[0.5, -1.0, 0.25], [0.25, 0.5, -0.5]], requires_grad=True)
    b1 = z2g.tensor([0.0, 0.1, 0.2], requires_grad=True)
    w2 = z2g.tensor([[1.0], [-0.5], [2.0]], requires_grad=True)
    with z2g.trace(), z2g.draw.tracing():
        h = (x @ w1 + b1).tanh()
        loss = F.mse_loss(h @ w2, y)
    page = z2g.play(loss)
    return locals()


def diamond():
    x = z2g.tensor([1.0, 2.0], requires_grad=True)
    with z2g.trace(), z2g.draw.tracing():
        a = x * 3
        b = x.exp()
        loss = (a * b + x).sum()  # "</script><b>"
    page = z2g.play(loss)
    return locals()


def squeezed(text):
    return re.sub(r"\s+", " ", text)


@pytest.mark.parametrize("graph", [net, diamond])
def test_every_step_shows_what_explain_tells(browser, tmp_path, graph):
    tensors = graph()
    tensors["page"].save(tmp_path / "play.html")
    told = story(tensors["loss"], tensors)
    browser.open(tmp_path / "play.html")
    nodes = list(told.steps)
    n = len(nodes)
    assert browser.run("return END") == 2 * n + 1
    for i, (node, step) in enumerate(told.steps.items()):
        browser.run("goTo(arguments[0])", n + 1 + i)
        shown = squeezed(browser.text("#panel"))
        assert f"Backward: {told._refer(node)}" in shown
        wanted = [step.formula, *(f"{text} → " for text, _ in step.sent)]
        wanted += [f"{name} = {value}" for name, value in step.values.items() if value[0] != "["]
        parts = told.arrivals.get(node, [])
        wanted += [part for part, _ in parts] + [f"grad = {step.grad}" if len(parts) < 2 else f"= {step.grad}"]
        wanted += [told._where(node)[0]]
        for text in wanted:
            assert squeezed(text) in shown, (text, shown)
    browser.run("goTo(END)")
    shown = squeezed(browser.text("#panel"))
    for leaf, total in told.ends.items():
        assert f"{told.names[leaf]} {tuple(leaf.array.shape)}" in shown and total in shown


def test_values_come_forward_and_gradients_backward(browser, tmp_path):
    net()["page"].save(tmp_path / "play.html")
    browser.open(tmp_path / "play.html")

    def lines(kind):
        return browser.run(f"return [...document.querySelectorAll('svg text.{kind}.on')].map(x => x.textContent)")

    order = ["matmul", "add", "h = tanh", "matmul", "loss = mse_loss"]
    for at in range(12):
        browser.run("goTo(arguments[0])", at)
        assert len(lines("v")) == 3 + min(at, 5)  # of the three leaves, and of each operation
        grads = [0, 0, 0, 0, 0, 0, 1, 3, 4, 6, 8, 8][at]  # mse_loss; matmul and w2; tanh; add and b1; matmul and w1
        assert len(lines("g")) == grads
        here = [x.find_element("css selector", "text.t").text for x in browser.all("svg .box.now")]
        assert here == ([order[at - 1]] if 0 < at < 6 else [order[10 - at]] if 5 < at < 11 else [])
    assert "value [[1, 0, -0.75]]" in lines("v") and "grad 1" in lines("g")
    browser.run("goTo(4)")  # h @ w2
    used = browser.run("return document.querySelectorAll('svg .wire.forward').length")
    assert used == 2 and not browser.all("svg .wire.backward")


def test_where_two_paths_meet_stands_a_plus(browser, tmp_path):
    diamond()["page"].save(tmp_path / "play.html")
    browser.open(tmp_path / "play.html")
    badges, grads, wires = [], [], []
    for at in range(6, 11):
        browser.run("goTo(arguments[0])", at)
        badges.append(len(browser.all("svg .badge.on")))
        assert ("+=" in browser.text("#panel h3:last-of-type ~ p")) == bool(badges[-1])
        grads.append(len(browser.all("svg .leaf text.g.on")))
        wires.append(len(browser.all("svg .wire.backward")))
    assert badges == [0, 0, 0, 1, 1]  # x gets its first part from add, then += from exp and from mul
    assert grads == [0, 0, 0, 0, 1]  # the sum is not there before its last part
    assert wires[0] == wires[3] == wires[4] == 1 and wires[2] == 2  # and no other arrow is in use
    browser.find("svg .box.leaf").click()
    e = np.exp([1.0, 2.0])
    shown = squeezed(browser.text("#tensor"))
    parts = [f"{v[0]:.4g}, {v[1]:.4g}" for v in (np.ones(2), np.array([3.0, 6.0]) * e, 3 * e)]
    assert f"grad = [{parts[0]}] from 2. add" in shown
    assert f"+= [{parts[1]}] from 4. exp → b" in shown and f"+= [{parts[2]}] from 5. mul → a" in shown
    total = 1 + np.array([3.0, 6.0]) * e + 3 * e
    assert f"= [{total[0]:.4g}, {total[1]:.4g}]" in shown
    assert "</script><b>" in browser.run("goTo(5); return document.getElementById('panel').textContent")


def test_buttons_keys_and_slider(browser, tmp_path):
    from selenium.webdriver import Keys

    net()["page"].save(tmp_path / "play.html")
    browser.open(tmp_path / "play.html")
    at = lambda: browser.run("return state.at")  # noqa: E731
    assert at() == 0 and not browser.find("#back").is_enabled()
    browser.find("#step").click()
    browser.find("#step").click()
    browser.find("#back").click()
    assert at() == 1 and browser.find("#at").text == "1 of 11, forward"
    browser.find("#last").click()
    assert at() == 11 and "what backward() adds to .grad" in browser.text("#panel h2")
    browser.find("#first").click()
    browser.run("document.activeElement.blur()")
    browser.keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_LEFT)
    assert at() == 1
    browser.keys(Keys.END)
    assert at() == 11
    browser.keys(Keys.HOME)
    setting(browser, "time", 7)
    assert at() == 7 and browser.find("#time").get_attribute("aria-valuetext") == "step 7 of 11, backward: 2. matmul"
    chosen(browser, "jump", "9")
    assert at() == 9 and browser.text("#panel h2") == "Backward: 4. add (1, 3)"
    browser.run("document.activeElement.blur()")
    browser.keys(" ")  # plays to the end, and stops there
    assert browser.find("#play").text == "Pause"
    browser.until("return state.at === END && !state.timer", 30)
    assert browser.find("#play").get_attribute("aria-pressed") == "false"
    browser.all("svg .box")[0].send_keys(Keys.ENTER)
    assert browser.text("#tensor h2") == "w1 (2, 3)"
    cells = [cell.text for cell in browser.all("#tensor table:first-of-type td")][:6]
    assert cells == ["0.5", "-1", "0.25", "0.25", "0.5", "-0.5"]
    browser.find("#tensor .links button").click()
    assert at() == 10  # where w1 gets its gradient


def test_a_large_graph_folds(browser, tmp_path):
    model = GPT(GPTConfig(vocab_size=11, context=8, layers=8, heads=2, width=16))
    ids = z2g.randint(0, 11, (2, 8))
    page = z2g.play(model, ids, ids, tmp_path / "play.html")
    data = data_of(page)
    assert len(data["items"]) > 250 and all(item["value"] is not None for item in data["items"])
    browser.open(tmp_path / "play.html")
    boxes = lambda: len(browser.all("svg .box"))  # noqa: E731
    assert boxes() < 20
    browser.find("svg .box.folded[aria-label*='blocks.0 … blocks.7']").click()
    assert "tensors are folded in here" in browser.text("#tensor")
    browser.find("#tensor button.main").click()
    assert browser.run("return state.view") == "blocks.0" and 20 < boxes() + 5 < 60
    browser.run("document.querySelector(\"svg .frame[aria-label*='blocks.0']\").dispatchEvent(new MouseEvent('click'))")
    assert browser.run("return state.view") == data["start"]
    names = browser.run("return Object.keys(depthNames)")
    browser.run("setView(arguments[0], true)", names[-1])
    assert boxes() == len(data["items"])
    browser.run("setView('0', true)")
    assert boxes() < 5
    browser.run("document.getElementById('follow').click()")
    middle = len(data["forward"]) // 2
    browser.run("goTo(arguments[0])", middle)
    (here,) = data["views"][browser.run("return state.view")]["boxes"] and browser.all("svg .box.now")
    assert "folded" not in here.get_attribute("aria-label")
    browser.run("document.getElementById('follow').checked = false; setView(data.start, true); goTo(60)")
    start = browser.run("return state.at")
    browser.run("goTo(nextBox(1))")
    assert browser.run("return state.at") > start + 20  # past all that is folded in one box


def test_pressing_each_box_of_each_view_shows_something(browser, tmp_path):
    model = nn.Sequential(nn.Linear(2, 3), nn.Sequential(nn.Tanh(), nn.Linear(3, 3)), nn.Linear(3, 1))
    z2g.play(model, z2g.ones(1, 2), path=tmp_path / "play.html")
    browser.open(tmp_path / "play.html")
    empty = browser.run("""
        const empty = [];
        for (const name of Object.keys(data.views)) {
          setView(name, true);
          for (let at = 0; at <= END; at++) {
            goTo(at);
            if (!document.getElementById('panel').textContent) empty.push([name, at]);
          }
          for (const box of picture.view.boxes) {
            chooseBox(box);
            const word = box.items.length > 1 ? 'Open' : '(';
            if (!document.getElementById('tensor').textContent.includes(word)) empty.push(box);
            if (box.open !== null && !(box.open in data.views)) empty.push(box.open);
          }
          for (const frame of picture.view.frames) if (!(frame.close in data.views)) empty.push(frame.close);
        }
        return empty""")
    assert empty == []


def test_the_graph_is_left_as_it_was(device):
    w, calls = z2g.tensor([[1.0, -2.0]], requires_grad=True), []
    w.register_hook(calls.append)
    with z2g.draw.tracing():
        loss = (w * w).exp().sum()
    page = z2g.play(loss)
    assert calls == [] and w.grad is None
    loss.backward()
    assert len(calls) == 1
    data = data_of(page)
    (item,) = (item for item in data["items"] if item["name"] == "w")
    np.testing.assert_allclose(data["tables"][item["grad"]["table"]]["rows"], w.grad.tolist(), rtol=1e-3)
    values = [data["tables"][item["value"]]["rows"] for item in data["items"]]
    expected = [[[1, -2]], [[1, 4]], [[math.e, math.exp(4)]], [[math.e + math.exp(4)]]]
    assert values == [pytest.approx(np.array(v), rel=1e-3) for v in expected]
    assert page._repr_html_().startswith("<iframe")


def test_without_tracing_the_page_says_what_is_missing():
    x = z2g.tensor([1.0, 2.0], requires_grad=True)
    double = x * 2
    data = data_of(z2g.play((double.exp()).sum()))
    assert [item["value"] is not None for item in data["items"]] == [True, True, False, True]  # exp's nobody holds
    assert ["draw.tracing" in hint for hint in data["hints"]] == [True, False]


def test_what_cannot_be_played():
    x = z2g.tensor([1.0, 2.0], requires_grad=True)
    for what, kind, message in [
        (3, TypeError, "play: expected a Tensor, or a callable and its arguments, got int"),
        (x, RuntimeError, "play: this tensor was not computed"),
        (x * 2, RuntimeError, r"play: expected one number, such as a loss, got shape \(2,\)"),
        (x.detach() * 2, RuntimeError, "play: this tensor does not require grad"),
    ]:
        with pytest.raises(kind, match=message) as caught:
            z2g.play(what)
        assert "\n" not in str(caught.value)
    loss = (x * x).sum()
    with pytest.raises(TypeError, match=r"expected a file name such as 'page.html', got int"):
        z2g.play(loss, 3)
    with pytest.raises(ValueError, match=r"ends in .html"):
        z2g.play(loss, "a.svg")
    loss.backward()
    with pytest.raises(RuntimeError, match="used up at 'sum' by backward"):
        z2g.play(loss)
    long = x.sum()
    for _ in range(501):
        long = long + 1
    with pytest.raises(ValueError, match="502 operations are too many to step through, at most 500"):
        z2g.play(long)


def test_the_committed_example_is_the_net_of_the_readme(browser):
    """It opens, and its numbers are those of today."""
    browser.open(EXAMPLE)
    browser.run("goTo(END)")
    shown, fresh = browser.run("return data"), data_of(net()["page"])
    for key in ("tables", "forward", "backward"):
        assert shown[key] == fresh[key]
    assert [item["name"] for item in shown["items"]] == [item["name"] for item in fresh["items"]]
    assert EXAMPLE.stat().st_size < 100_000


# --- A training run ----------------------------------------------------------------------------------------------


def run():
    model = nn.Sequential(nn.Linear(1, 8), nn.Tanh(), nn.Linear(8, 1))
    x = z2g.rand(32, 1) * 6 - 3
    optimizer = optim.Adam(model.parameters(), 1e-2)
    losses = []
    with z2g.watch(model, every=5) as w:
        for step in range(40):
            loss = F.mse_loss(model(x), x.sin())
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
            w.note(loss=loss)
            if step % 10 == 0:
                w.note(sample=f"<b>{step}</b>\nand on")
    return w, losses


def test_a_run_as_a_page(browser, tmp_path):
    w, losses = run()
    w.page(tmp_path / "run.html", title="Sines")
    browser.open(tmp_path / "run.html")
    assert browser.text("h1") == "Sines" and "8 of 40 steps looked at; 3 layers" in browser.text("#summary")
    assert browser.text("#remarks") == "no complaints"
    for at, step in ((39, 40), (15, 16)):
        setting(browser, "time", at)
        assert browser.find("#at").text == f"step {step} of 40"
        assert float(browser.text("#noted output")) == pytest.approx(losses[step - 1], rel=1e-3)
        looked = max(s for s in range(1, 41, 5) if s <= step)
        row = [cell.text for cell in browser.all("#table tbody tr:first-child td")]
        for cell, quantity in zip(row[1:], ("output", "output gradient", "weights", "gradient", "update"), strict=True):
            assert float(cell) == pytest.approx(dict(w.history["0 · Linear"][quantity])[looked], rel=0.06)
        assert browser.text("#texts h2") == f"sample, of step {(step - 1) // 10 * 10 + 1}"
        assert browser.text("#texts pre") == f"<b>{(step - 1) // 10 * 10}</b>\nand on"
    assert len(browser.all("#layers-chart .line")) == 3 and len(browser.all("#noted .line")) == 1
    browser.find("#table button").click()
    assert browser.find("#layers-chart .line.chosen").find_element("css selector", "title").get_attribute(
        "textContent") == "0 · Linear"  # fmt: skip
    chosen(browser, "quantity", "output")
    assert browser.find("#layers-chart svg").get_attribute("aria-label") == "output of 3 layers over the steps"
    browser.find("#back").click()
    assert browser.find("#at").text == "step 15 of 40"


def test_a_run_with_numbers_that_are_not_finite(browser, tmp_path):
    model = nn.Linear(1, 1)
    with z2g.watch(model, every=1) as w:
        for factor in (1.0, math.inf):
            (model(z2g.ones(1, 1)) * factor).sum().backward()
            w.note(loss=math.nan if factor == 1 else 2.0)
    w.page(tmp_path / "run.html")
    browser.open(tmp_path / "run.html")
    assert "inf" in browser.text("#table") and "gradient" in browser.text("#remarks")
    assert len(browser.all("#noted .line")) == 1


def test_notes_and_their_errors(tmp_path):
    with z2g.watch(nn.Linear(1, 1)) as w:
        with pytest.raises(RuntimeError, match=r"nothing has been seen"):
            w.page(tmp_path / "run.html")
        w.model(z2g.ones(1, 1)).sum().backward()
        w.note(loss=1, poem="a")
        w.note(loss=np.float32(2.5))
        for value in ([1], None, True):
            with pytest.raises(TypeError, match=r"loss must be a number or a text, got"):
                w.note(loss=value)
        with pytest.raises(TypeError, match=r"loss was 1.0 before and is 'a' now; use two names"):
            w.note(loss="a")
    assert w.notes == {"loss": [(1, 1.0), (1, 2.5)], "poem": [(1, "a")]}
    with pytest.raises(ValueError, match=r"ends in .html"):
        w.page(tmp_path / "run.pdf")
    assert data_of(w.page())["numbers"] == {"loss": [[1, 1.0], [1, 2.5]]}
