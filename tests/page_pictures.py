"""Make the example page and the pictures of pages that the README shows.

    python tests/page_pictures.py out/gpt.html    # the page that examples/18_gpt.py has left

The net is that of the README, run as the file net.py.
"""

import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from browser import chromium

ROOT = Path(__file__).parent.parent
PICTURES = ROOT / "examples" / "pictures"


def main():
    """Run the README's example, open both pages, and photograph them."""
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    (net,) = (block for block in blocks if "z2g.play" in block)
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "net.py").write_text(net, encoding="utf-8")
        path = {**os.environ, "PYTHONPATH": str(ROOT)}
        subprocess.run([sys.executable, "net.py"], cwd=folder, env=path, check=True, stdout=subprocess.DEVNULL)
        page = (Path(folder) / "backprop.html").read_text(encoding="utf-8")
        (PICTURES / "backprop.html").write_text(page, encoding="utf-8")
    with chromium() as browser:
        browser.screen(1180, 760)
        browser.open(PICTURES / "backprop.html")
        browser.run("goTo(8)")
        browser.picture(PICTURES / "page_play.png")
        browser.open(sys.argv[1])
        browser.screen(1180, 1010)
        browser.find("#write").click()
        browser.until("return !document.getElementById('write').disabled")
        browser.run("document.getElementById('text').scrollTop = 0; page.choose(150)")
        browser.run("document.querySelectorAll('#heads button')[6].click()")
        browser.picture(PICTURES / "page_gpt.png")


if __name__ == "__main__":
    main()
