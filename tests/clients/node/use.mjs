// Uses a server through OpenAI's package for JavaScript and prints what it saw; BASE_URL is in the environment.
import { File } from "node:buffer";
import OpenAI, { toFile } from "openai";

globalThis.File ??= File; // Node.js 18 has it, but not there
const client = new OpenAI({
  baseURL: process.env.BASE_URL, apiKey: "none", organization: "org", project: "project", maxRetries: 0,
});
const asked = {
  model: "llm", temperature: 0, max_tokens: 16,
  messages: [{ role: "user", content: "What is the capital of France?" }],
};

async function streamed() {
  const stream = await client.chat.completions.create({ ...asked, stream: true, stream_options: { include_usage: true } });
  const pieces = [];
  let usage = null;
  for await (const chunk of stream) {
    if (chunk.choices.length > 0) pieces.push(chunk.choices[0].delta.content ?? "");
    usage = chunk.usage ?? usage;
  }
  return { pieces, usage };
}

async function left() { // a stream that its reader leaves
  const controller = new AbortController();
  const stream = await client.chat.completions.create(
    { ...asked, max_tokens: 1000, stream: true }, { signal: controller.signal },
  );
  let chunks = 0;
  for await (const _ of stream) if (++chunks === 3) controller.abort();
  return chunks;
}

async function heard() {
  const sound = await client.audio.speech.create({ model: "tts", voice: "alloy", input: "Hello there.", response_format: "wav" });
  const file = await toFile(Buffer.from(await sound.arrayBuffer()), "hello.wav");
  return (await client.audio.transcriptions.create({ model: "stt", file })).text;
}

async function refused(call) {
  try {
    await call();
  } catch (error) {
    return [error.constructor.name, error.status, error.code, error.param];
  }
  throw new Error("it was not refused");
}

const models = [];
for await (const model of client.models.list()) models.push(model.id);
const vectors = await client.embeddings.create({ model: "embeddings", input: ["one", "two"] }); // asks for base64 by itself
console.log(JSON.stringify({
  chat: (await client.chat.completions.create(asked)).choices[0].message.content,
  streamed: await streamed(),
  helper: await client.chat.completions.stream(asked).finalContent(),
  left: await left(),
  heard: await heard(),
  vectors: vectors.data.map((one) => one.embedding.length),
  models,
  no_such_model: await refused(() => client.chat.completions.create({ ...asked, model: "none" })),
  no_messages: await refused(() => client.chat.completions.create({ ...asked, messages: [] })),
}));
