"""The report page as Chromium shows it: desktop and phone, pointer and touch, on paper, without WebGL or scripts."""

from __future__ import annotations

import base64
import io
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pypdf import PdfReader
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

from ToothTopoSegLib.anatomy import fdi
from ToothTopoSegLib.evaluation.html import write_check_page
from ToothTopoSegLib.topology.check import check_volume
from ToothTopoSegLib.topology.report import make_report

DESKTOP, PHONE, A4_WITHOUT_MARGINS = (1440, 900), (390, 844), (703, 1032)
BACKGROUND = (0xEE, 0xF1, 0xF5)
# Chromium as root, drawing in software, and asking nothing of any network
FLAGS = (
    *("--headless", "--no-sandbox", "--use-angle=swiftshader", "--enable-unsafe-swiftshader", "--disable-quic"),
    *("--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"),
    *("--disable-dev-shm-usage", "about:blank"),
)


@pytest.fixture(scope="module")
def browser(tmp_path_factory) -> Iterator[webdriver.Chrome]:
    """Chromium with an empty profile; missing is a failure in CI and a skip elsewhere."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if chromium is None or driver is None:
        message = "no chromium and chromedriver on the PATH; install them (Debian: chromium chromium-driver)"
        if os.environ.get("CI", "").lower() == "true":
            pytest.fail(message)
        pytest.skip(message)
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(flag)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chrome = webdriver.Chrome(options, webdriver.ChromeService(driver))
    yield chrome
    chrome.quit()


@pytest.fixture(scope="module")
def written(full_mouth, tmp_path_factory) -> Path:
    """The page of a label map alone: tooth 36 is missing, and 11 is in two pieces."""
    labels = full_mouth[1]
    array = labels.array.copy()
    array[array == 36] = 0
    array[2:6, 60:64, 60:64] = 11
    broken = labels.with_array(array)
    findings, mouth = check_volume(broken, None)
    report = make_report(broken, findings, timing_s={}, peak_rss_mb=1.0, model=None, input={}, topology=mouth.teeth)
    path = tmp_path_factory.mktemp("Bögen und Zähne") / "page 1.html"
    write_check_page(report, broken, None, findings, path)
    return path


@pytest.fixture
def opened(browser, written):
    """Opens the page in a window of a size; what a test emulated is taken back."""

    def open_page(size: tuple[int, int] = DESKTOP, media: str = "screen") -> webdriver.Chrome:
        width, height = size
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": size == PHONE}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": media})
        for kind in ("browser", "performance"):
            browser.get_log(kind)
        browser.get(written.as_uri())
        return browser

    yield open_page
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def drawn(chrome: webdriver.Chrome) -> np.ndarray:
    """RGB (rows, columns, 3) of what the 3D view has drawn."""
    url = chrome.execute_script("return document.querySelector('#teeth-3d canvas').toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))).convert("RGB"), dtype=int)


def covered(picture: np.ndarray) -> float:
    """The part of the view where something stands."""
    return float((np.abs(picture - BACKGROUND).max(axis=-1) > 8).mean())


def part(chrome: webdriver.Chrome, selector: str) -> WebElement:
    return chrome.find_element(By.CSS_SELECTOR, selector)


def test_the_page_asks_for_nothing_but_itself_and_complains_of_nothing(opened, written) -> None:
    chrome = opened()
    sent = [json.loads(entry["message"])["message"] for entry in chrome.get_log("performance")]
    asked = [entry["params"]["request"]["url"] for entry in sent if entry["method"] == "Network.requestWillBeSent"]
    assert [url for url in asked if not url.startswith(("data:image/png", "chrome:"))] == [written.as_uri()]
    assert chrome.get_log("browser") == []


@pytest.mark.parametrize("size", [DESKTOP, PHONE])
def test_it_fits_the_window_and_shows_every_picture(opened, size) -> None:
    chrome = opened(size)
    assert chrome.execute_script("return document.documentElement.scrollWidth") <= size[0]
    assert chrome.execute_script(
        "const all = [...document.images]; return all.length > 2 && all.every((i) => i.complete && i.naturalWidth)"
    )
    assert 0.15 < covered(drawn(chrome)) < 0.8


def test_dragging_turns_the_teeth_and_a_button_brings_them_back(opened) -> None:
    chrome = opened()
    chrome.execute_script("document.querySelector('#teeth-3d').scrollIntoView()")
    before = drawn(chrome)
    ActionChains(chrome).drag_and_drop_by_offset(part(chrome, "#teeth-3d canvas"), 180, 60).perform()
    assert (np.abs(drawn(chrome) - before) > 30).any(axis=-1).mean() > 0.05
    part(chrome, "[data-view=front]").click()
    assert np.array_equal(drawn(chrome), before)


def test_one_jaw_can_be_shown_alone(opened) -> None:
    chrome = opened()
    part(chrome, "[data-view=right]").click()
    both = covered(drawn(chrome))
    part(chrome, "[data-jaw=lower]").click()
    assert part(chrome, "[data-jaw=lower]").get_attribute("aria-pressed") == "true"
    part(chrome, "[data-zoom='1.25']").click()
    assert 0.01 < covered(drawn(chrome)) < 0.8 * both


def test_tapping_a_tooth_of_the_chart_shows_it_in_the_middle_of_the_view(opened) -> None:
    chrome = opened(PHONE)
    tooth = part(chrome, ".chart [data-tooth='26']")
    at = tooth.rect
    point = {"x": at["x"] + at["width"] / 2, "y": at["y"] + at["height"] / 2}
    point["y"] -= chrome.execute_script("return scrollY")
    for kind, points in (("touchStart", [point]), ("touchEnd", [])):
        chrome.execute_cdp_cmd("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    assert part(chrome, "#teeth-3d").get_attribute("data-chosen") == "26"
    assert "chosen" in tooth.get_attribute("class")
    assert part(chrome, "#teeth-3d .chosen").text.startswith("26 upper left first molar")
    rows, columns, _ = (picture := drawn(chrome)).shape
    red, _, blue = picture[rows // 2, columns // 2]
    assert blue > red + 60


def test_the_tooth_under_the_pointer_is_named_and_a_click_chooses_it(opened) -> None:
    chrome = opened()
    chrome.execute_script("document.querySelector('#teeth-3d').scrollIntoView()")
    canvas = part(chrome, "#teeth-3d canvas")
    part(chrome, ".chart [data-tooth='14']").find_element(By.CSS_SELECTOR, "text").click()
    ActionChains(chrome).move_to_element(canvas).perform()
    assert part(chrome, "#teeth-3d .tip").text.startswith("14 upper right first premolar")
    part(chrome, "[data-all]").click()
    assert part(chrome, "#teeth-3d").get_attribute("data-chosen") == ""
    ActionChains(chrome).move_to_element_with_offset(canvas, 15, 60).perform()
    named = part(chrome, "#teeth-3d .tip").text.split()[0]
    ActionChains(chrome).click().perform()
    assert part(chrome, "#teeth-3d").get_attribute("data-chosen") == named


def test_a_finding_shows_its_teeth_and_its_place(opened) -> None:
    chrome = opened()
    row = part(chrome, "tr.error")
    row.find_element(By.CSS_SELECTOR, ".show3d").click()
    assert part(chrome, "#teeth-3d .chosen").text.startswith("Finding")
    chosen = part(chrome, "#teeth-3d").get_attribute("data-chosen").split()
    assert chosen and all(number in row.text for number in chosen)


def test_on_paper_nothing_is_cut_off_and_every_tooth_is_measured(opened) -> None:
    chrome = opened(A4_WITHOUT_MARGINS, "print")
    assert chrome.execute_script(
        "return [...document.querySelectorAll('.scroll')].every((one) => one.scrollWidth <= one.clientWidth)"
    )
    pdf = base64.b64decode(chrome.execute_cdp_cmd("Page.printToPDF", {"printBackground": True})["data"])
    pages = [page.extract_text() for page in PdfReader(io.BytesIO(pdf)).pages]
    assert 3 <= len(pages) <= 9 and all(page.strip() for page in pages)
    text = " ".join(" ".join(pages).split())
    assert "Both jaws" not in text and "not a medical device" in text
    assert all(fdi.name(tooth) in text for tooth in (11, 27, 31, 47))


def test_without_webgl_the_page_says_so_and_the_chart_leads_to_the_tables(opened) -> None:
    chrome = opened()
    code = {"source": "HTMLCanvasElement.prototype.getContext = () => null;"}
    script = chrome.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", code)
    try:
        chrome = opened()
        assert "needs WebGL" in part(chrome, "#teeth-3d").text
        assert not part(chrome, "#teeth-3d .tools").is_displayed() and not part(chrome, ".show3d").is_displayed()
        part(chrome, ".chart [data-tooth='14']").find_element(By.CSS_SELECTOR, "text").click()
        assert "#" in chrome.current_url
    finally:
        chrome.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", script)


def test_without_scripts_the_page_says_so_and_the_rest_reads_well(opened, browser) -> None:
    browser.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    chrome = opened()
    text = part(chrome, "body").text
    assert "needs scripts" in text and "needs WebGL" not in text and "Show in 3D" not in text
    assert "Measurements" in text and "Both jaws" not in text
