// Puts one job on a lane and waits until the broker has it on disk.
//
//     AMQP_URL=amqp://user:password@host/vhost node publish-job.js job.json [signup|bulk]
//
// job.json holds {"jobId": "crm-1", "user": {...}}; ARCHITECTURE.md has the contract.

import { readFile } from "node:fs/promises";
import { basename } from "node:path";
import amqp from "amqplib";

const prefix = process.env.PLU_PREFIX ?? "plu.onboarding";
const [path, lane = "signup"] = process.argv.slice(2);

const connection = await amqp.connect(process.env.AMQP_URL);
const channel = await connection.createConfirmChannel();

// A job without a queue comes back before its confirm. Without mandatory, it would vanish without a word.
let returned = false;
channel.on("return", () => {
  returned = true;
});

channel.publish(`${prefix}.jobs`, lane, await readFile(path), {
  contentType: "application/json",
  persistent: true,
  mandatory: true,
  // Names the job where the body has no jobId. Your own id, so that publishing again after an error is harmless.
  messageId: process.env.MESSAGE_ID ?? basename(path),
  // In seconds. Tells a user who was created by an earlier try from one who was there before.
  timestamp: Math.floor(Date.now() / 1000),
  // The same in milliseconds, so that the worker's metrics say more than whole seconds.
  headers: { timestamp_in_ms: Date.now() },
});
// Throws where the broker doesn't take it.
await channel.waitForConfirms();
await connection.close();

if (returned) throw new Error(`no queue takes jobs of the lane ${lane}`);
console.log(`on the lane ${lane}: ${path}`);
