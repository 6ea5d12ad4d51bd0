// A real Chromium, and a CDN that is made of the npm packages installed here.

import { mkdir, readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

/** Where GraphiQL's packages are installed, in the sense of `--graphiql-assets`. */
export const PACKAGES = fileURLToPath(new URL("..", import.meta.url));
const SCREENSHOTS = fileURLToPath(new URL("../../../target/screenshots/", import.meta.url));

export const launch = () =>
  chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    // Containers have no room for the sandbox; only our own page is opened.
    args: ["--no-sandbox"],
  });

/** A page that reaches this machine only: `cdn` answers for the CDN. What the browser complains about is kept. */
export async function openPage(browser, cdn) {
  const page = await browser.newPage({ viewport: { width: 1400, height: 850 } });
  page.complaints = [];
  page.on("pageerror", (error) => page.complaints.push(error.message));
  page.on("console", (message) => message.type() === "error" && page.complaints.push(message.text()));
  await page.route((url) => url.hostname !== "127.0.0.1", cdn);
  return page;
}

/**
 * Answers for the CDN as it would: each file verbatim from the package of exactly that version, unless `change` makes
 * something else of it.
 */
export const fromPackages = ({ change = (content) => content } = {}) =>
  async (route) => {
    const url = new URL(route.request().url());
    const [, name, version, path] = url.pathname.match(/^\/npm\/([^@/]+)@([^/]+)\/(.+)$/) ?? [];
    if (url.origin !== "https://cdn.jsdelivr.net" || !name) return route.abort();
    const read = (file) => readFile(`${PACKAGES}/node_modules/${name}/${file}`);
    if (JSON.parse(await read("package.json")).version !== version) return route.fulfill({ status: 404 });
    return route.fulfill({
      body: change(await read(path)),
      contentType: path.endsWith(".css") ? "text/css" : "text/javascript",
      headers: { "access-control-allow-origin": "*" },
    });
  };

/** The CDN as it looks from a machine without internet. */
export const unreachable = (route) => route.abort("internetdisconnected");

/** Keeps a picture of the page, for people to look at; where it is. */
export async function picture(page, name) {
  await mkdir(SCREENSHOTS, { recursive: true });
  const path = `${SCREENSHOTS}${name}.png`;
  await page.screenshot({ path });
  return path;
}
