// The browser's own EventSource, in a page that comes from where the server is.

import { readFile } from "node:fs/promises";
import { openPage, unreachable } from "./browser.js";
import { EXAMPLES } from "./examples.js";

/** Opens the example's page at the server's own origin, as if the server had it; nothing else comes from elsewhere. */
export async function openExamplePage(browser, origin, search = "") {
  const page = await openPage(browser, unreachable);
  for (const [file, contentType] of [["eventsource.html", "text/html"], ["eventsource.js", "text/javascript"]]) {
    const body = await readFile(new URL(file, EXAMPLES));
    const { href } = new URL(`/${file}`, origin);
    await page.route((url) => url.origin + url.pathname === href, (route) => route.fulfill({ body, contentType }));
  }
  await page.goto(new URL(`/eventsource.html${search}`, origin).href);
  // All there is to load is loaded; now requests take the straight way.
  await page.unrouteAll();
  return page;
}

/** The example in the form of the others. */
export const eventsource = (browser) => ({
  connect: (url) => url,
  async watchTask(url, id, show) {
    const page = await openExamplePage(browser(), url);
    await page.exposeFunction("show", show);
    const errors = await page.evaluate(async ({ url, id }) => {
      const { connect, watchTask } = await import("/eventsource.js");
      const shown = [];
      const watching = watchTask(connect(url), id, (event) => shown.push(window.show(event)));
      const errors = await watching.catch((errors) => errors);
      await Promise.all(shown);
      return errors;
    }, { url, id });
    await page.close();
    if (errors) throw errors;
  },
});
