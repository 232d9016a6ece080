/** The file that `sallyport init` writes: the smallest that does something, with what comes next as comments. */
export const firstSettings = `# What agents may do, and what they may not. Check it with \`sallyport check\`.
# Every key is explained in docs/configuration.md, the language of policy in docs/policy.md.

# What agents may be let near. Each tool says what it does to the world:
# read, write, destroy, send (something leaves the house), execute. What is not described counts as destroy.
resources:
  notes:
    mcp:
      command: [npx, -y, "@modelcontextprotocol/server-memory"]
      # env: { API_KEY: "\${env:NOTES_KEY}" }   # credentials stay here; agents never see them
    tools:
      read_graph: read
      search_nodes: read
      open_nodes: read
      create_entities: write
      add_observations: write
      delete_entities: destroy

# The agents, and what each may do. What is not in \`may\` does not exist for the agent.
agents:
  reader:
    may:
      - notes:read_graph
      - notes:search_nodes
      - notes:open_nodes
    limits: { calls: 100/min }

  writer:
    # observe: policy refuses nothing and records what it would have refused. For the first day.
    # mode: observe
    may:
      - notes:read_graph
      - notes:create_entities
      - do: notes:add_observations
        when: size(args.observations) <= 10
        because: at most ten observations at once
      # A tool that destroys asks a person, unless the entry says \`ask: never\`.
      - notes:delete_entities
    # What it may hand on to another agent.
    lends:
      reader: [notes:read_graph]

# What is forbidden, or asked about, whatever the lists above say. deny beats ask beats allow; the order never matters.
rules:
  - deny: "*:send"
    when: flow.untrusted && flow.private
    because: strangers' text and private data are in one session

# Who answers. The first start makes an administrator; the people below come beside. Nobody may approve what they asked for
# through an agent: if you are alone, say so.
# approvals: { self: true }
# people:
#   anna: { roles: [approver], teams: [support] }
`
