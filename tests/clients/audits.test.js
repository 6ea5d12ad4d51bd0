// GraphQL over HTTP, by the public audits of graphql-http.

import assert from "node:assert/strict";
import { after, before, describe, test } from "node:test";
import { serverAudits } from "graphql-http";
import { startServer } from "./support/server.js";

let server;
before(async () => (server = await startServer()));
after(() => server?.stop());

const audits = serverAudits({ url: () => server.endpoint });

test("the audits are the ones we know", () => assert.equal(audits.length, 61));

describe("GraphQL over HTTP", () => {
  for (const audit of audits) {
    test(`${audit.id} ${audit.name}`, async () => {
      const { status, reason } = await audit.fn();
      assert.equal(status, "ok", reason);
    });
  }
});
