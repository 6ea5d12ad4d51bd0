
// The operations that a new visitor finds, each in a tab of its own.
const examples = [
  {
    query: `# Starts a task and returns at once; the task goes on whatever happens to this page.
# Run it (Ctrl-Enter), then watch it in the next tab.
mutation StartTask {
  startTask(input: {kind: "simulate", input: {steps: 10, stepMs: 500}}) {
    task {
      id
      kind
      status
      createdAt
    }
  }
}
`,
  },
  {
    query: `# Its progress, live, until it ends.
# An empty "id" in the variables stands for the task that was started last on this page.
subscription WatchProgress($id: ID!) {
  taskProgress(id: $id) {
    status
    percent
    message
    result
    error {
      code
      message
    }
    cursor
  }
}
`,
    variables: '{\n  "id": ""\n}',
  },
  {
    query: `# Everything that happened to it, from the first event on, numbered without a hole.
# Interrupted? Give the last cursor as \`after\`, and the next event is exactly the next one.
subscription WatchEvents($id: ID!, $after: String) {
  taskEvents(id: $id, after: $after) {
    __typename
    seq
    attempt
    at
    cursor
    ... on TaskStatusChanged {
      status
      result
      error {
        code
        message
      }
    }
    ... on TaskProgressed {
      percent
      message
    }
    ... on TaskLogged {
      level
      line: message
    }
    ... on TaskChunk {
      index
      value
    }
  }
}
`,
    variables: '{\n  "id": "",\n  "after": null\n}',
  },
  {
    query: `# Data as it comes from a source; the source stops when nobody listens any more.
subscription Stream {
  dataStream(source: "random", first: 10) {
    id
    timestamp
    value
    metadata
  }
}
`,
  },
  {
    query: `# The same data, recorded: every row becomes an event of a task, to be read now or later.
mutation Collect {
  startTask(input: {kind: "collect", input: {source: "random"}}) {
    task {
      id
      status
    }
  }
}
`,
  },
  {
    query: `# What there is.
query Tasks {
  tasks(first: 10) {
    totalCount
    nodes {
      id
      kind
      status
      progress {
        percent
        message
      }
      createdAt
    }
  }
  kinds {
    name
    description
  }
  sources {
    name
    description
  }
}
`,
  },
];
