
// The operations that a new visitor finds, each in a tab of its own.
const examples = [
  {
    query: `# Starts a task and returns at once; it goes on
# whatever happens to this page. Run this (Ctrl-Enter),
# then watch the task in the next tab.
mutation StartTask {
  startTask(
    input: {
      kind: "simulate"
      input: {steps: 10, stepMs: 500}
    }
  ) {
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
# An empty "id" in the variables below stands for
# the task that was started last on this page.
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
    query: `# All that happened to it, from the first event on,
# numbered without a hole. To go on after an
# interruption, give the last cursor as "after".
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
    query: `# Data as it comes from a source, which stops
# when nobody listens any more.
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
    query: `# The same data, recorded: each row becomes an event
# of a task, to be watched now or read later.
mutation Collect {
  startTask(
    input: {
      kind: "collect"
      input: {source: "random"}
    }
  ) {
    task {
      id
      status
    }
  }
}
`,
  },
  {
    query: `# Two slow sources at once, then something made of
# both: as long as the slowest way through them.
query Join {
  joinedData(join: "profile") {
    data
    elapsedMs
    sequentialMs
    parts {
      name
      source
      dependsOn
      startedMs
      elapsedMs
      error {
        code
        message
      }
    }
  }
}
`,
  },
  {
    query: `# Several sources at once, then one after another, and
# what is gained: each is really asked twice.
query Compare {
  comparison(join: "three_reads") {
    improvementPercent
    speedup
    sequential {
      elapsedMs
    }
    concurrent {
      elapsedMs
    }
  }
}
`,
  },
  {
    query: `# This server at one glance: its health, asked over
# HTTP, and its tasks.
query Overview {
  joinedData(join: "overview") {
    data
    elapsedMs
  }
  joins {
    name
    description
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
