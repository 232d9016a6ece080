import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { noPostgres, startPostgres, versions } from '../../test/support/postgres.ts'
import type { PostgresServer } from '../../test/support/postgres.ts'
import { deskTables, startDesk } from '../../test/support/postgres-desk.ts'
import type { Desk } from '../../test/support/postgres-desk.ts'
import { applySetup } from './apply.ts'
import { findings, verify } from './verify.ts'
import type { Finding } from './verify.ts'

/**
 * What somebody has done by hand, and what is said of it: `where: what`. `$p` and `$i` stand for the policy and internal
 * schemas, `$o` for the owner of the views, `$r` and `$w` for roles of agents, `$g` for that of the gateway, `$d` for the
 * database.
 */
type Drift = readonly [sql: string, said: string]

const everything = 'id, customer_id, subject, body, status, amount, created'

/** What `apply` puts right again. */
const repaired: readonly Drift[] = [
  [
    `create or replace view $p.tickets as select ${everything} from public.tickets`,
    'view $p.tickets: shows something else than what was planned: it was changed',
  ],
  [
    'alter view $p.tickets set (security_barrier = false)',
    'view $p.tickets: has the options check_option=cascaded, security_barrier=false, not security_barrier=true, check_option=cascaded',
  ],
  [
    'alter view $p.tickets reset (check_option)',
    'view $p.tickets: has the options security_barrier=true, not security_barrier=true, check_option=cascaded',
  ],
  ['grant select on $p.tickets to public', 'view $p.tickets: gives PUBLIC SELECT, which is not of the plan'],
  [
    'grant insert (subject) on $p.tickets to $r',
    'view $p.tickets: gives $r INSERT (subject), which is not of the plan',
  ],
  [
    'grant select (id) on $p.tickets to $r with grant option',
    'view $p.tickets: gives $r SELECT* (id), which is not of the plan',
  ],
  ['revoke select (body) on $p.tickets from $r', 'view $p.tickets: lacks the right of $r SELECT (body)'],
  [`alter view $p.tickets alter column status set default 'x'`, 'view $p.tickets: has a default of status'],
  ['create rule r as on update to $p.customers do instead nothing', 'view $p.customers: has a rule r'],
  [
    `create function public.t() returns trigger language plpgsql as 'begin return null; end'; create trigger t instead of delete on $p.tickets for each row execute function public.t()`,
    'view $p.tickets: has a trigger t',
  ],
  ['drop view $p.responses', 'view $p.responses: is not there'],
  [`comment on view $p.customers is 'mine'`, 'view $p.customers: was made from another description of the table'],
  ['alter role $r createdb createrole', 'role $r: has CREATEROLE, CREATEDB'],
  ['alter role $w superuser bypassrls replication', 'role $w: has SUPERUSER, REPLICATION, BYPASSRLS'],
  ['alter role $r inherit', 'role $r: has INHERIT'],
  ['grant pg_read_all_data to $r', 'role $r: is a member of pg_read_all_data'],
  ['grant $o to $w', 'role $w: is a member of $o'],
  ['alter role $r set search_path = public', 'role $r: has the setting search_path=public'],
  ['alter role $w set statement_timeout = 0', 'role $w: lacks its setting statement_timeout=5000'],
  ['alter role $w in database $d set lock_timeout = 0', 'role $w: has the setting lock_timeout=0 in $d'],
  ['alter role $w reset all', 'role $w: lacks its setting standard_conforming_strings=on'],
  ['alter role $r connection limit -1', 'role $r: has a connection limit of -1, not 10'],
  [`alter role $r valid until '2001-01-01'`, 'role $r: ends at 2001-01-01 00:00:00+00'],
  ['alter role $r nologin', "role $r: can't log in"],
  ['alter role $o login', 'role $o: can log in'],
  [
    `create or replace function $i.scope(fact text) returns text language plpgsql stable strict parallel restricted security definer set search_path = pg_catalog, pg_temp as 'begin return 8; end'`,
    'function $i.scope: has another body',
  ],
  [
    'alter function $i.scope(text) security invoker',
    'function $i.scope: is of another kind: plpgsql f s r strict text',
  ],
  [
    'alter function $i.hash(text) leakproof',
    'function $i.hash: is of another kind: plpgsql f s r definer strict leakproof text',
  ],
  ['alter function $i.scope(text) reset search_path', 'function $i.scope: has other settings'],
  ['alter function $i.scope(text) owner to postgres', 'function $i.scope: is owned by postgres'],
  [
    'grant execute on function $i.hash(text) to public',
    'function $i.hash: gives PUBLIC EXECUTE, which is not of the plan',
  ],
  [`create function $i.other() returns int language sql as 'select 1'`, 'routine $i.other(): is not of the plan'],
  ['grant usage on schema $i to $r', 'schema $i: gives $r USAGE, which is not of the plan'],
  ['grant create on schema $p to $w', 'schema $p: gives $w CREATE, which is not of the plan'],
  ['revoke usage on schema $p from $r', 'schema $p: lacks the right of $r USAGE'],
  ['grant insert on $i.session to $r', 'table $i.session: gives $r INSERT, which is not of the plan'],
  ['revoke delete on $i.session from $g', 'table $i.session: lacks the right of $g DELETE'],
  [
    'alter table $i.session add column more int',
    'table $i.session: has other columns: pid integer, role name, scope jsonb, opened timestamp with time zone, session text, more integer',
  ],
  ['grant select on $i.key to $g', 'table $i.key: gives $g SELECT, which is not of the plan'],
  ['grant select on public.salaries to $o', 'role $o: may SELECT on public.salaries, which no view needs'],
  [
    'grant update (subject) on public.tickets to $o',
    'role $o: may UPDATE (subject) on public.tickets, which no view needs',
  ],
  ['revoke select (body) on public.tickets from $o', 'role $o: lacks the right to SELECT (body) on public.tickets'],
]

/** What somebody has to put right who knows why it was done. */
const reported: readonly Drift[] = [
  ['drop owned by $r; drop role $r', 'role $r: is not there'],
  [`comment on role $r is 'mine'`, 'role $r: was not made for this database and resource: its comment is another'],
  [
    `create role zz_$r; comment on role zz_$r is 'sallyport: $d/$a'`,
    'role zz_$r: is there for an agent that holds nothing any more',
  ],
  ['create table $p.notes (x int)', 'table $p.notes: is not of the plan'],
  [`create function $p.f() returns int language sql as 'select 1'`, 'routine $p.f(): is not of the plan'],
  ['create domain $p.d as int', 'type $p.d: is not of the plan'],
  [
    `create function public.t() returns trigger language plpgsql as 'begin return new; end'; create trigger t before insert on $i.session for each row execute function public.t()`,
    'table $i.session: has a trigger t',
  ],
  ['alter schema $p owner to postgres', 'schema $p: is owned by postgres'],
  ['drop table $i.key', 'table $i.key: is not there'],
  ['grant select on public.salaries to $r', 'role $r: holds rights on table public.salaries'],
  ['grant select (amount) on public.salaries to $r', 'role $r: holds rights on column amount of table public.salaries'],
  ['create table public.mine (x int); alter table public.mine owner to $r', 'role $r: owns table public.mine'],
  ['grant usage on schema public to $w', 'role $w: holds rights on schema public'],
  ['grant temporary on database $d to $r', 'database $d: gives $r TEMPORARY, which is not of the plan'],
  [
    'alter default privileges grant select on tables to $r',
    'role $r: holds rights on default privileges on new relations belonging to role postgres',
  ],
  ['alter table public.responses owner to $o', 'role $o: owns public.responses'],
  ['alter table public.tickets rename to billets', 'table public.tickets: is not there'],
]

/** What is around. */
const around: readonly (readonly [...Drift, severity: Finding['severity']])[] = [
  ['grant $o to $g', 'role $g: is a member of $o', 'warning'],
  ['grant $o to pg_monitor', 'role $o: pg_monitor can act as it', 'warning'],
  ['alter role $g superuser', 'role $g: has SUPERUSER', 'warning'],
  [
    'grant select on public.salaries to public',
    "table public.salaries: every role may SELECT on it, agents' roles among them",
    'error',
  ],
  [
    'grant update (amount) on public.salaries to public',
    "table public.salaries: every role may UPDATE on it, agents' roles among them",
    'error',
  ],
  [
    'grant create on schema public to public',
    'schema public: every role can make tables and functions in it',
    'warning',
  ],
  [
    `create function public.f() returns int language sql security definer as 'select 1'`,
    'function public.f(): every role can run it with the rights of postgres',
    'warning',
  ],
  [
    `create function public.f(text, text) returns text language sql security definer as 'select 1';
     revoke all on function public.f from public; create aggregate public.a(text) (sfunc = public.f, stype = text)`,
    'function public.a(text): every role can run it with the rights of postgres',
    'warning',
  ],
  [
    `create procedure public.f() language sql security definer as 'select 1'`,
    'procedure public.f(): every role can run it with the rights of postgres',
    'warning',
  ],
  [
    `create foreign data wrapper w; create server far foreign data wrapper w; grant usage on foreign server far to public`,
    'server far: every role can reach it, with the user that is mapped for PUBLIC if there is one',
    'warning',
  ],
  [
    `select lo_create(4711); grant select on large object 4711 to public`,
    'large object 4711: every role can read or change it',
    'error',
  ],
  [
    'create unique index subjects on public.tickets (customer_id, subject)',
    'table public.tickets: public.subjects tells whoever inserts which keys are taken, also by rows of other sessions',
    'note',
  ],
  [
    'create unique index subjects on public.tickets (customer_id, lower(subject))',
    'table public.tickets: ON CONFLICT DO UPDATE over public.subjects reaches rows of other sessions: only the check of statements refuses it',
    'warning',
  ],
  ['select 1', 'database $d: every role can make temporary tables and functions', 'warning'],
  [
    'grant create on database $d to public',
    'database $d: every role can make schemas, and anything in them',
    'warning',
  ],
  [
    'alter database $d set standard_conforming_strings = off',
    'database $d: standard_conforming_strings is off: a backslash would end strings elsewhere than Sallyport reads',
    'error',
  ],
  [
    'alter table public.tickets enable row level security',
    "table public.tickets: has row security: its policies decide for the views' owner as well",
    'note',
  ],
  [
    'select 1',
    'table public.tickets: on delete, public.responses (ticket_id) follows by its foreign key: cascade',
    'note',
  ],
  [
    `create function public.t() returns trigger language plpgsql as 'begin return new; end'; create trigger t before insert or update on public.tickets for each row execute function public.t()`,
    "table public.tickets: trigger t runs public.t before insert or update, with the rights of the agent's role",
    'note',
  ],
  [
    'create extension dblink',
    'extension dblink: every role can call its functions, which reach other machines, files or programs',
    'warning',
  ],
  ['alter role $r reset temp_file_limit', 'role $r: nothing limits its temporary files', 'note'],
]

describe.each(versions)('verify on PostgreSQL %i', async (version) => {
  const missing = await noPostgres(version)
  let server: PostgresServer
  let desk: Desk

  beforeAll(async () => {
    if (missing) return
    server = await startPostgres({ version })
    desk = await startDesk(server)
  })
  afterAll(async () => {
    await desk?.close()
    await server?.close()
  })

  const filled = (text: string): string => {
    const { names, databaseName, expected, alias } = desk.plan
    const words = {
      p: names.policy,
      i: names.internal,
      o: names.owner,
      r: names.agent('reader'),
      w: names.agent('desk-worker'),
      g: expected.gateway,
      d: databaseName,
      a: alias,
    }
    return text.replaceAll(/\$([piorwgda])/g, (_, key: keyof typeof words) => words[key])
  }
  const said = (found: readonly Finding[]) => found.map(({ where, what }) => `${where}: ${what}`)

  /** What is found while it is so; then it is undone. */
  async function within(sql: string): Promise<readonly Finding[]> {
    await desk.admin.query('begin')
    try {
      await desk.admin.query(filled(sql))
      return await findings(desk.admin, desk.plan)
    } finally {
      await desk.admin.query('rollback')
    }
  }

  test.skipIf(missing).each([...repaired, ...reported].map(([sql, what]) => ({ sql, what })))(
    '$what',
    async ({ sql, what }) => {
      const found = await within(sql)
      expect(said(found.filter(({ severity, about }) => about === 'setup' && severity === 'error'))).toContain(
        filled(what),
      )
    },
  )

  test.skipIf(missing).each(around.map(([sql, what, severity]) => ({ sql, what, severity })))(
    '$severity: $what',
    async ({ sql, what, severity }) => {
      const found = (await within(sql)).filter((each) => each.about === 'around' && each.severity === severity)
      expect(said(found)).toContain(filled(what))
    },
  )

  test.skipIf(missing)('nothing but what is so is said', async () => {
    const found = await verify(desk.admin, desk.plan)
    expect(found.filter(({ about, severity }) => about === 'setup' || severity === 'error')).toEqual([])
    for (const { advice } of found) expect(advice).not.toBe('')
  })

  test.skipIf(missing)('apply puts all of it right at once', async () => {
    for (const [sql] of repaired) await desk.admin.query(filled(sql))
    expect((await findings(desk.admin, desk.plan)).length).toBeGreaterThan(repaired.length / 2)
    expect(await applySetup(desk.admin, desk.plan)).toMatchObject({ isChanged: true })
    expect((await verify(desk.admin, desk.plan)).filter(({ about }) => about === 'setup')).toEqual([])
  })

  test.skipIf(missing)('what apply can not put right, it says, and changes nothing', async () => {
    await desk.admin.query(
      filled('grant select on public.salaries to $r; revoke select (body) on public.tickets from $o'),
    )
    await expect(applySetup(desk.admin, desk.plan)).rejects.toThrow(
      filled('the database is not as planned afterwards: role $r: holds rights on table'),
    )
    expect(said(await verify(desk.admin, desk.plan))).toContain(
      filled('role $o: lacks the right to SELECT (body) on public.tickets'),
    )
    await desk.admin.query(filled('revoke all on public.salaries from $r'))
    await applySetup(desk.admin, desk.plan)
  })

  test.skipIf(missing)('another database, and one that was never set up, are told', async () => {
    const other = await startDesk(server, { tables: deskTables })
    expect(said(await verify(other.admin, desk.plan))).toEqual(
      expect.arrayContaining([
        `database ${other.settings.databaseName}: this is not the database \`${desk.plan.databaseName}\``,
        filled('schema $p: is not there'),
        filled('view $p.tickets: is not there'),
      ]),
    )
    await other.close()
  })
})
