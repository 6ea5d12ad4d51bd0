// Watches a task with one of the examples: node run.js EXAMPLE [TASK_ID]
//
// Without a task it starts one that works for five seconds. MEANWHILE_URL names another server.

const [example, task] = process.argv.slice(2);
const url = process.env.MEANWHILE_URL ?? "http://127.0.0.1:8000/graphql";

async function startTask() {
  const response = await fetch(url, {
    method: "POST",
    headers: { "content-type": "application/json" },
    body: JSON.stringify({ query: `mutation { startTask(input: {kind: "simulate"}) { task { id } } }` }),
  });
  const { data, errors } = await response.json();
  if (errors) throw errors;
  return data.startTask.task.id;
}

const show = ({ __typename, seq, status, percent }) => console.log(seq, __typename, status ?? `${percent} %`);

const { connect, watchTask } = await import(`./${example}.js`);
try {
  await watchTask(connect(url), task ?? (await startTask()), show);
} catch (error) {
  // Some clients give the list of GraphQL errors as it is.
  console.error((error[0] ?? error).message);
  // At once: graphql-ws keeps the connection when an operation ends while it is being left.
  process.exit(1);
}
