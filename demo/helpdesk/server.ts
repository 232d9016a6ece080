/**
 * What a small helpdesk does beside keeping tickets, as an MCP server over stdio: `HELPDESK_DB=desk.db HELPDESK_KEY=…
 * node server.ts`. It speaks 2025-11-25
 * and 2026-07-28, and does what it is told by whoever has its key. No tool asks who is behind a call.
 */
import { setTimeout as pause } from 'node:timers/promises'
import { McpServer } from '@modelcontextprotocol/server'
import type { CallToolResult, ServerContext, ToolAnnotations } from '@modelcontextprotocol/server'
import { serveStdio } from '@modelcontextprotocol/server/stdio'
import { z } from 'zod'
import { DeskError, euros, openDesk } from './desk.ts'
import type { Desk } from './desk.ts'

const customer_id = z.int().positive().describe('The customer that it is about.')

/** How many old tickets are looked through at a time, and how long the old archive takes for them. */
const page = { size: 20, milliseconds: 100 }

function helpdesk(desk: Desk): McpServer {
  const server = new McpServer({ name: 'helpdesk', version: '1.0.0' })

  /** Registers a tool whose every call is written down, whatever becomes of it. */
  function tool<Shape extends z.ZodRawShape>(
    name: string,
    description: string,
    shape: Shape,
    run: (args: z.output<z.ZodObject<Shape>>, ctx: ServerContext) => unknown,
    annotations?: ToolAnnotations,
  ): void {
    const inputSchema = z.strictObject(shape)
    const answer = async (args: z.output<z.ZodObject<Shape>>, ctx: ServerContext): Promise<CallToolResult> => {
      const ended = desk.began(name, args)
      try {
        const given = await run(args, ctx)
        ended('done')
        return { content: [{ type: 'text', text: typeof given === 'string' ? given : JSON.stringify(given, null, 2) }] }
      } catch (thrown) {
        ended(ctx.mcpReq.signal.aborted ? 'cancelled' : 'failed')
        if (thrown instanceof DeskError) return { content: [{ type: 'text', text: thrown.message }], isError: true }
        throw thrown
      }
    }
    server.registerTool(
      name,
      { description, inputSchema, ...(annotations === undefined ? {} : { annotations }) },
      answer as never,
    )
  }

  tool(
    'refund',
    'Sends money back to a customer, at once.',
    {
      order_id: z.int().positive(),
      customer_id,
      amount: z.number().positive().max(1_000_000).describe('In EUR.'),
    },
    (args) => {
      const cents = Math.round(args.amount * 100)
      const id = desk.refund(args.customer_id, args.order_id, cents)
      return `refund ${id}: ${euros(cents)} for order ${args.order_id} are on their way`
    },
    { destructiveHint: true },
  )
  tool('delete_user', 'Deletes the account of a user.', { user_id: z.int().positive() }, (args) =>
    desk.deleteUser(args.user_id) === 1 ? `user ${args.user_id} is deleted` : `there is no user ${args.user_id}`,
  )
  tool('delete_all_users', 'Deletes the accounts of all users.', {}, () => `${desk.deleteAllUsers()} users are deleted`)
  tool('fetch_url', 'Fetches a page, for example where a parcel is.', { url: z.url().max(2_000) }, ({ url }, ctx) =>
    fetchLocal(url, ctx.mcpReq.signal),
  )
  tool(
    'search_archive',
    'Looks through old tickets of a customer. The archive is slow.',
    { customer_id, text: z.string().min(1).max(100) },
    async ({ customer_id: customer, text }, { mcpReq: { signal, notify, _meta } }) => {
      const size = desk.archiveSize()
      const found = []
      for (let from = 0; from < size; from += page.size) {
        found.push(...desk.archivePage(customer, text, from, page.size))
        if (_meta?.progressToken !== undefined)
          await notify({
            method: 'notifications/progress',
            params: { progressToken: _meta.progressToken, progress: from + page.size, total: size },
          })
        await pause(page.milliseconds, undefined, { signal })
      }
      return found
    },
  )

  server.registerResource(
    'refund rules',
    'helpdesk://rules/refunds',
    { mimeType: 'text/plain', description: 'When customers get money back.' },
    (uri) => ({
      contents: [
        {
          uri: uri.href,
          mimeType: 'text/plain',
          text: 'Broken on arrival: the price of the item. Above 100 EUR: a manager.',
        },
      ],
    }),
  )
  return server
}

/** Fetches from this machine alone: a demonstration has no business anywhere else, whatever it is told. */
async function fetchLocal(address: string, signal: AbortSignal): Promise<string> {
  const { protocol, hostname } = new URL(address)
  if (protocol !== 'http:' || !['127.0.0.1', 'localhost', '[::1]'].includes(hostname))
    throw new DeskError('this helpdesk fetches from its own machine alone')
  try {
    const response = await fetch(address, {
      redirect: 'error',
      signal: AbortSignal.any([signal, AbortSignal.timeout(2_000)]),
    })
    let text = ''
    for await (const chunk of response.body?.pipeThrough(new TextDecoderStream()) ?? []) {
      text += chunk
      if (text.length > 10_000) break
    }
    return text.slice(0, 10_000)
  } catch (thrown) {
    throw new DeskError('the page could not be fetched', { cause: thrown })
  }
}

if (import.meta.main) {
  const { HELPDESK_DB: file, HELPDESK_KEY: key } = process.env
  if (file === undefined || key === undefined) {
    console.error('expected the file of the helpdesk in HELPDESK_DB and its key in HELPDESK_KEY')
    process.exit(2)
  }
  const desk = openDesk(file, key)
  serveStdio(() => helpdesk(desk))
}
