// A chat with AG-UI's agent and no framework: the messages that it keeps are drawn anew whenever they change.
import { HttpAgent } from "@ag-ui/client";
import { resuming } from "./resuming.js";

const name = new URLSearchParams(location.search).get("agent") ?? "calculator";
const agent = new HttpAgent({
  url: `/agentq/ag-ui/${name}`,
  threadId: crypto.randomUUID(),
  fetch: resuming(),
});
const chat = document.getElementById("chat");
const form = document.querySelector("form");
const input = form.querySelector("input");

function element(tag, text = "", className = "") {
  return Object.assign(document.createElement(tag), { textContent: text, className });
}

function draw() {
  chat.replaceChildren(...agent.messages.flatMap(drawn), ...agent.pendingInterrupts.map(asked));
}

function drawn({ role, content, toolCalls = [] }) {
  const text = typeof content === "string" ? content : (content ?? []).map((part) => part.text ?? "").join("");
  const calls = toolCalls.map((call) => element("code", `${call.function.name} ${call.function.arguments}`));
  const article = element("article", "", role);
  article.append(...(text ? [element(role === "tool" ? "output" : "p", text)] : []), ...calls);
  return [article];
}

function asked({ id, message, reason, responseSchema }) {
  const question = element("p", `${message} `, "question");
  const choices =
    reason === "approval"
      ? [["Approve", { approved: true }], ["Deny", { approved: false }]]
      : (responseSchema?.enum ?? []).map((choice) => [choice, choice]);
  for (const [label, payload] of choices) {
    const button = element("button", label);
    button.onclick = () => run({ resume: [{ interruptId: id, status: "resolved", payload }] });
    question.append(button);
  }
  return question;
}

async function run(parameters = {}) {
  document.body.dataset.status = "running";
  try {
    await agent.runAgent(
      { runId: crypto.randomUUID(), ...parameters },
      { onMessagesChanged: draw, onRunErrorEvent: ({ event }) => chat.append(element("p", event.message, "error")) },
    );
  } finally {
    draw();
    document.body.dataset.status = "ready";
  }
}

form.onsubmit = (event) => {
  event.preventDefault();
  agent.addMessage({ id: crypto.randomUUID(), role: "user", content: input.value });
  input.value = "";
  draw();
  run();
};
document.body.dataset.status = "ready";
