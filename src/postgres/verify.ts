import type pg from 'pg'
import { catalogState, signed } from './catalog-views.ts'
import type { Verb } from './description.ts'
import type { Queries } from './introspect.ts'
import { catalogOf } from './introspect.ts'
import { baseName } from './changes.ts'
import { internalTables, readByViews } from './setup.ts'
import type { ExpectedView, Plan } from './setup.ts'

/** Something about a database that a person should know. */
export interface Finding {
  /** `error`: what was promised does not hold. `warning`: it holds, with less behind it. `note`: good to know. */
  readonly severity: 'error' | 'warning' | 'note'
  /** What was made for the resource, or what is around it. */
  readonly about: 'setup' | 'around'
  readonly what: string
  readonly where: string
  readonly advice: string
}

/**
 * Whether a database is as planned, from its catalogs alone: every role can read them. Nothing is changed. What can't be
 * seen there: passwords, rows, who the server lets in from where (pg_hba.conf), and what a superuser has made to look right.
 */
export async function verify(client: Pick<pg.ClientBase, 'query'>, plan: Plan): Promise<readonly Finding[]> {
  await client.query('begin transaction isolation level repeatable read read only')
  try {
    await client.query('set local search_path = pg_catalog, pg_temp')
    return await findings(client, plan)
  } finally {
    await client.query('rollback')
  }
}

/** The same inside of a transaction. Sets the search path of the transaction. */
export async function findings(client: Queries, plan: Plan): Promise<readonly Finding[]> {
  await client.query('set local search_path = pg_catalog, pg_temp')
  const look = async <T>(sql: string, ...values: unknown[]): Promise<readonly T[]> =>
    (await client.query(sql, values)).rows as T[]
  const found: Finding[] = []
  const say: Say = (severity, about, where, what, advice = again) =>
    void found.push({ severity, about, where, what, advice })
  const [database] = await look<{ name: string; version: number }>(
    `select current_database()::text as name, current_setting('server_version_num')::int as version`,
  )
  if (database === undefined || database.name !== plan.databaseName)
    say('error', 'setup', `database ${database?.name}`, `this is not the database \`${plan.databaseName}\``)
  await roles(look, plan, say)
  await schemas(look, plan, say)
  await internals(look, plan, say)
  await views(look, plan, say)
  await catalogs(look, plan, say)
  await triggers(look, plan, say)
  await ownerRights(look, plan, say)
  await agentRights(look, plan, say)
  await surroundings(look, plan, say)
  for (const view of plan.expected.views) await changes(client, view, plan, say)
  return found
}

type Look = <T>(sql: string, ...values: unknown[]) => Promise<readonly T[]>
type Say = (
  severity: Finding['severity'],
  about: Finding['about'],
  where: string,
  what: string,
  advice?: string,
) => void

const again = 'run `sallyport db apply`'

async function roles(look: Look, { expected, names, databaseName }: Plan, say: Say): Promise<void> {
  interface Role {
    name: string
    comment: string | null
    login: boolean
    powers: string[]
    limit: number
    until: string | null
    settings: string[] | null
    local: string[] | null
    memberOf: string[]
    members: string[]
  }
  const there = await look<Role>(
    `select r.rolname as name, shobj_description(r.oid, 'pg_authid') as comment, r.rolcanlogin as login,
      array_remove(array[case when rolsuper then 'SUPERUSER' end, case when rolinherit then 'INHERIT' end,
        case when rolcreaterole then 'CREATEROLE' end, case when rolcreatedb then 'CREATEDB' end,
        case when rolreplication then 'REPLICATION' end, case when rolbypassrls then 'BYPASSRLS' end], null) as powers,
      r.rolconnlimit as limit, nullif(r.rolvaliduntil, 'infinity')::text as until,
      (select s.setconfig from pg_db_role_setting s where s.setrole = r.oid and s.setdatabase = 0) as settings,
      (select s.setconfig from pg_db_role_setting s where s.setrole = r.oid
        and s.setdatabase = (select oid from pg_database where datname = current_database())) as local,
      array(select pg_get_userbyid(m.roleid)::text from pg_auth_members m where m.member = r.oid order by 1) as "memberOf",
      array(select pg_get_userbyid(m.member)::text from pg_auth_members m where m.roleid = r.oid
        and not m.admin_option and pg_get_userbyid(m.member) <> current_user order by 1) as members
    from pg_roles r
    where r.rolname = any ($1::text[]) or shobj_description(r.oid, 'pg_authid') = $2`,
    [...expected.roles.map(({ name }) => name), expected.gateway],
    expected.mark,
  )
  const byName = new Map(there.map((role) => [role.name, role]))
  for (const { name, agent, connections, settings } of expected.roles) {
    const where = `role ${name}`
    const role = byName.get(name)
    const wrong = (what: string): void => say('error', 'setup', where, what)
    if (role === undefined) {
      wrong('is not there')
      continue
    }
    if (role.comment !== expected.mark) wrong('was not made for this database and resource: its comment is another')
    if (role.login !== (agent !== undefined)) wrong(role.login ? 'can log in' : "can't log in")
    if (role.powers.length > 0) wrong(`has ${role.powers.join(', ')}`)
    if (role.memberOf.length > 0) wrong(`is a member of ${role.memberOf.join(', ')}`)
    if (role.members.length > 0)
      say('warning', 'around', where, `${role.members.join(', ')} can act as it`, `revoke ${name} from them`)
    if (role.limit !== connections) wrong(`has a connection limit of ${role.limit}, not ${connections}`)
    if (role.until !== null) wrong(`ends at ${role.until}`)
    const limits = role.settings?.filter((each) => each.startsWith('temp_file_limit=')) ?? []
    const others = role.settings?.filter((each) => !limits.includes(each)).toSorted() ?? []
    for (const each of settings.filter((one) => !others.includes(one))) wrong(`lacks its setting ${each}`)
    for (const each of others.filter((one) => !settings.includes(one))) wrong(`has the setting ${each}`)
    for (const each of role.local ?? []) wrong(`has the setting ${each} in ${databaseName}`)
    if (agent !== undefined && limits.length === 0)
      say(
        'note',
        'around',
        where,
        'nothing limits its temporary files',
        'have a superuser set temp_file_limit for the role, or for the server',
      )
  }
  const extra = there.filter(
    ({ name, comment }) => comment === expected.mark && !expected.roles.some((r) => r.name === name),
  )
  for (const { name } of extra)
    say('error', 'setup', `role ${name}`, 'is there for an agent that holds nothing any more')
  gateway(byName.get(expected.gateway), `role ${expected.gateway}`, say)
  if (byName.get(names.owner) === undefined) return
  const owned = await look<{ name: string }>(
    `select distinct n.nspname || '.' || c.relname as name from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where c.relowner = $1::text::regrole and n.nspname <> all ($2::text[]) and n.nspname not like 'pg\\_toast%' limit 20`,
    `"${names.owner}"`,
    [names.policy, names.internal, names.catalog],
  )
  for (const { name } of owned)
    say(
      'error',
      'setup',
      `role ${names.owner}`,
      `owns ${name}`,
      'give that table another owner: owning it is every right to it',
    )
}

function gateway(
  role: { login: boolean; powers: string[]; memberOf: string[] } | undefined,
  where: string,
  say: Say,
): void {
  if (role === undefined) return say('error', 'setup', where, 'is not there')
  if (!role.login) say('error', 'setup', where, "can't log in", 'let it log in, or name another role in `postgres:`')
  const powers = role.powers.filter((power) => power !== 'INHERIT')
  const advice = 'give the gateway a role that can do nothing but say whose a connection is'
  if (powers.length > 0) say('warning', 'around', where, `has ${powers.join(', ')}`, advice)
  if (role.memberOf.length > 0) say('warning', 'around', where, `is a member of ${role.memberOf.join(', ')}`, advice)
}

async function schemas(look: Look, { names, expected }: Plan, say: Say): Promise<void> {
  const wanted = [names.policy, names.internal, names.catalog]
  const agents = expected.roles.filter(({ agent }) => agent !== undefined).map(({ name }) => name)
  const users = new Map([
    [names.policy, agents],
    [names.internal, [expected.gateway]],
    [names.catalog, expected.catalog === undefined ? [] : agents],
  ])
  const there = await look<{ name: string; owner: string; comment: string | null; rights: string[] }>(
    `select nspname as name, pg_get_userbyid(nspowner)::text as owner, obj_description(oid, 'pg_namespace') as comment,
      array(select ${grantee} || ' ' || a.privilege_type || case when a.is_grantable then '*' else '' end
        from aclexplode(nspacl) a where a.grantee <> nspowner) as rights
    from pg_namespace where nspname = any ($1::text[])`,
    wanted,
  )
  for (const name of wanted) {
    const where = `schema ${name}`
    const schema = there.find((each) => each.name === name)
    if (schema === undefined) {
      say('error', 'setup', where, 'is not there')
      continue
    }
    if (schema.owner !== names.owner) say('error', 'setup', where, `is owned by ${schema.owner}`)
    if (schema.comment !== expected.mark)
      say('error', 'setup', where, 'was not made for this resource: its comment is another')
    compare(
      schema.rights,
      (users.get(name) ?? []).map((role) => `${role} USAGE`),
      where,
      say,
    )
  }
  const others = await look<{ kind: string; name: string }>(
    `select case relkind when 'r' then 'table' when 'v' then 'view' when 'S' then 'sequence' else 'relation' end as kind,
      n.nspname || '.' || relname as name
    from pg_class c join pg_namespace n on n.oid = relnamespace
    where n.nspname = any ($1::text[]) and relkind not in ('i', 't', 'I')
      and (n.nspname, relname, relkind) not in (select * from unnest($2::name[], $3::name[], $4::"char"[]))
    union all
    select 'routine', p.oid::regprocedure::text from pg_proc p join pg_namespace n on n.oid = pronamespace
    where n.nspname = any ($1::text[])
      and (n.nspname <> $5 or proname || '(' || pg_get_function_arguments(p.oid) || ')' <> all ($6::text[]))
    union all
    select 'operator', o.oid::regoperator::text from pg_operator o join pg_namespace n on n.oid = oprnamespace
    where n.nspname = any ($1::text[])
    union all
    select 'type', t.oid::regtype::text from pg_type t join pg_namespace n on n.oid = typnamespace
    where n.nspname = any ($1::text[]) and typrelid = 0 and typelem = 0`,
    wanted.filter((name) => name !== names.catalog || expected.catalog === undefined),
    [...expected.views.map(() => names.policy), ...Object.keys(internalTables).map(() => names.internal)],
    [...expected.views.map(({ table }) => table.name), ...Object.keys(internalTables)],
    [...expected.views.map(() => 'v'), ...Object.keys(internalTables).map(() => 'r')],
    names.internal,
    expected.functions.map(({ name, arguments: args }) => `${name}(${args})`),
  )
  for (const { kind, name } of others) say('error', 'setup', `${kind} ${name}`, 'is not of the plan')
}

/** The catalogs as agents may see them, as a whole. */
async function catalogs(look: Look, { names, expected }: Plan, say: Say): Promise<void> {
  if (expected.catalog === undefined) return
  const [there] = await look<{ signed: string | null; state: string | null }>(catalogState, names.catalog)
  if (there?.signed === signed(expected.catalog, there?.state ?? null)) return
  say('error', 'setup', `schema ${names.catalog}`, 'shows other catalogs than what was planned')
}

/** Of `aclexplode`, who holds a right. */
const grantee = `case when a.grantee = 0 then 'PUBLIC' else pg_get_userbyid(a.grantee)::text end`

/** Rights of a relation as `role VERB` and `role VERB (column)`, without those of its owner. */
const rightsOf = `array(
    select ${grantee} || ' ' || a.privilege_type || case when a.is_grantable then '*' else '' end
    from aclexplode(c.relacl) a where a.grantee <> c.relowner
    union all
    select ${grantee} || ' ' || a.privilege_type || case when a.is_grantable then '*' else '' end || ' (' || t.attname || ')'
    from pg_attribute t, aclexplode(t.attacl) a
    where t.attrelid = c.oid and t.attnum > 0 and not t.attisdropped and a.grantee <> c.relowner)`

function compare(there: readonly string[], wanted: readonly string[], where: string, say: Say): void {
  for (const right of wanted) if (!there.includes(right)) say('error', 'setup', where, `lacks the right of ${right}`)
  for (const right of there)
    if (!wanted.includes(right)) say('error', 'setup', where, `gives ${right}, which is not of the plan`)
}

async function internals(look: Look, { names, expected }: Plan, say: Say): Promise<void> {
  const tables = await look<Relation & { shape: string; guarded: boolean }>(
    `select c.relname as name, pg_get_userbyid(c.relowner)::text as owner, ${rightsOf} as rights, ${attached} as attached,
      (select string_agg(attname || ' ' || format_type(atttypid, atttypmod), ', ' order by attnum) from pg_attribute
        where attrelid = c.oid and attnum > 0 and not attisdropped) as shape, c.relrowsecurity as guarded
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $1 and c.relkind = 'r'`,
    names.internal,
  )
  for (const [name, shape] of Object.entries(internalTables)) {
    const where = `table ${names.internal}.${name}`
    const table = tables.find((each) => each.name === name)
    if (table === undefined) {
      say('error', 'setup', where, 'is not there')
      continue
    }
    if (table.shape !== shape) say('error', 'setup', where, `has other columns: ${table.shape}`)
    if (table.guarded) say('error', 'setup', where, 'has row security')
    const wanted = ['SELECT', 'INSERT', 'UPDATE', 'DELETE'].map((verb) => `${expected.gateway} ${verb}`)
    relation(table, names.owner, name === 'session' ? wanted : [], where, say)
  }
  interface Function_ {
    name: string
    owner: string
    body: string
    settings: string[] | null
    kind: string
    rights: string[]
    arguments: string
  }
  const functions = await look<Function_>(
    `select p.proname as name, pg_get_userbyid(p.proowner)::text as owner, p.prosrc as body, p.proconfig as settings,
      concat_ws(' ', l.lanname, p.prokind, p.provolatile, p.proparallel, case when p.prosecdef then 'definer' end,
        case when p.proisstrict then 'strict' end, case when p.proleakproof then 'leakproof' end,
        format_type(p.prorettype, null)) as kind,
      array(select ${grantee} || ' ' || a.privilege_type || case when a.is_grantable then '*' else '' end
        from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a where a.grantee <> p.proowner) as rights,
      pg_get_function_arguments(p.oid) as arguments
    from pg_proc p join pg_language l on l.oid = p.prolang join pg_namespace n on n.oid = p.pronamespace
    where n.nspname = $1`,
    names.internal,
  )
  const users = {
    agents: expected.roles.filter(({ agent }) => agent !== undefined).map(({ name }) => name),
    gateway: [expected.gateway],
    nobody: [],
  }
  for (const { name, body, arguments: args, kind, settings, users: whose } of expected.functions) {
    const where = `function ${names.internal}.${name}`
    const there = functions.find((each) => each.name === name && each.arguments === args)
    if (there === undefined) {
      say('error', 'setup', where, 'is not there')
      continue
    }
    if (there.body !== body) say('error', 'setup', where, 'has another body')
    if (there.owner !== names.owner) say('error', 'setup', where, `is owned by ${there.owner}`)
    if (there.kind !== kind) say('error', 'setup', where, `is of another kind: ${there.kind}`)
    if ((there.settings ?? []).join('\n') !== settings.join('\n')) say('error', 'setup', where, 'has other settings')
    compare(
      there.rights,
      users[whose].map((role) => `${role} EXECUTE`),
      where,
      say,
    )
  }
}

/** Those that keep changes: on each table that they are planned for, and on no other. */
async function triggers(look: Look, { names, expected }: Plan, say: Say): Promise<void> {
  interface Trigger {
    schema: string
    table: string
    name: string
    function: string
    enabled: string
    comment: string | null
    digest: string
    isPart: boolean
  }
  const there = await look<Trigger>(
    `select n.nspname as schema, c.relname as "table", t.tgname as name, p.proname as function, t.tgenabled as enabled,
      obj_description(t.oid, 'pg_trigger') as comment, md5(pg_get_triggerdef(t.oid)) as digest, t.tgparentid <> 0 as "isPart"
    from pg_trigger t join pg_class c on c.oid = t.tgrelid join pg_namespace n on n.oid = c.relnamespace
    join pg_proc p on p.oid = t.tgfoid join pg_namespace f on f.oid = p.pronamespace
    where f.nspname = $1 and not t.tgisinternal order by 1, 2, 3`,
    names.internal,
  )
  for (const { base, digest } of expected.kept) {
    const where = `table ${baseName(base)}`
    const wrong = (what: string, advice?: string): void => say('error', 'setup', where, what, advice)
    const trigger = there.find(
      (each) => !each.isPart && each.schema === base.schema && each.table === base.table && each.name === names.policy,
    )
    if (trigger === undefined) {
      wrong('keeps no changes: its trigger is not there')
      continue
    }
    const [, planned, made] = /^sallyport: ([0-9a-f]{32}) ([0-9a-f]{32})$/.exec(trigger.comment ?? '') ?? []
    if (planned !== digest || trigger.function !== 'record') wrong('keeps changes by the trigger of another plan')
    else if (made !== trigger.digest) wrong('keeps changes by a trigger that was changed')
    if (trigger.enabled !== 'A') wrong('keeps no changes at all times: its trigger is disabled or can be passed over')
    const [fit] = await look<{ key: boolean; heirs: boolean; parts: string[] }>(
      `select exists (select from pg_constraint where conrelid = c.oid and contype = 'p') as key,
        c.relkind = 'r' and exists (select from pg_inherits where inhparent = c.oid) as heirs,
        array(select s.relid::text from pg_partition_tree(c.oid) s where not exists (select from pg_trigger t
          join pg_proc p on p.oid = t.tgfoid join pg_namespace f on f.oid = p.pronamespace
          where t.tgrelid = s.relid and t.tgenabled = 'A' and p.proname = 'record' and f.nspname = $3)) as parts
      from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relname = $2`,
      base.schema,
      base.table,
      names.internal,
    )
    const leave = 'or leave out `undo`'
    if (fit?.key !== true)
      wrong('has no primary key: what is changed in it could not be undone', `give it one, ${leave}`)
    if (fit?.heirs === true)
      wrong('has tables that inherit from it, whose changes are not kept', `use partitions, ${leave}`)
    for (const part of fit?.parts ?? []) wrong(`keeps no changes of its partition ${part}`)
  }
  const isPlanned = ({ schema, table, name, isPart }: Trigger): boolean =>
    isPart ||
    (name === names.policy && expected.kept.some(({ base }) => base.schema === schema && base.table === table))
  for (const each of there.filter((trigger) => !isPlanned(trigger)))
    say('error', 'setup', `trigger ${each.name} on ${each.schema}.${each.table}`, 'is not of the plan')
}

interface Relation {
  name: string
  owner: string
  rights: string[]
  attached: string[]
}

/** Triggers and rules of a relation, besides the rule that makes a view, and defaults of a view's columns. */
const attached = `array(
    select 'trigger ' || tgname from pg_trigger where tgrelid = c.oid and not tgisinternal
    union all select 'rule ' || rulename from pg_rewrite where ev_class = c.oid and ev_type <> '1'
    union all select 'policy ' || polname from pg_policy where polrelid = c.oid
    union all select 'default of ' || a.attname from pg_attrdef d
      join pg_attribute a on a.attrelid = d.adrelid and a.attnum = d.adnum where d.adrelid = c.oid and c.relkind = 'v')`

function relation(there: Relation, owner: string, rights: readonly string[], where: string, say: Say): void {
  if (there.owner !== owner) say('error', 'setup', where, `is owned by ${there.owner}`)
  for (const each of there.attached) say('error', 'setup', where, `has a ${each}`)
  compare(there.rights, rights, where, say)
}

async function views(look: Look, { names, expected }: Plan, say: Say): Promise<void> {
  const there = await look<Relation & { comment: string | null; digest: string; options: string[] }>(
    `select c.relname as name, pg_get_userbyid(c.relowner)::text as owner, ${rightsOf} as rights, ${attached} as attached,
      obj_description(c.oid, 'pg_class') as comment, md5(pg_get_viewdef(c.oid)) as digest,
      coalesce(c.reloptions, '{}') as options
    from pg_class c join pg_namespace n on n.oid = c.relnamespace where n.nspname = $1 and c.relkind = 'v'`,
    names.policy,
  )
  for (const { table, digest, grants, isWritable } of expected.views) {
    const where = `view ${names.policy}.${table.name}`
    const view = there.find(({ name }) => name === table.name)
    if (view === undefined) {
      say('error', 'setup', where, 'is not there')
      continue
    }
    const [, planned, made] = /^sallyport: ([0-9a-f]{32}) ([0-9a-f]{32})$/.exec(view.comment ?? '') ?? []
    if (planned !== digest) say('error', 'setup', where, 'was made from another description of the table')
    else if (made !== view.digest)
      say('error', 'setup', where, 'shows something else than what was planned: it was changed')
    const options = ['security_barrier=true', ...(isWritable ? ['check_option=cascaded'] : [])]
    if (view.options.toSorted().join() !== options.toSorted().join())
      say(
        'error',
        'setup',
        where,
        `has the options ${view.options.join(', ') || 'of no view'}, not ${options.join(', ')}`,
      )
    const rights = [...grants].flatMap(([role, given]) =>
      [...given].flatMap(([verb, columns]) => rightsFor(role, verb, columns)),
    )
    relation(view, names.owner, rights, where, say)
  }
}

const rightsFor = (role: string, verb: Verb, columns: readonly string[]): string[] =>
  verb === 'delete' ? [`${role} DELETE`] : columns.map((column) => `${role} ${verb.toUpperCase()} (${column})`)

/** The owner of the views holds what these need, and nothing else. */
async function ownerRights(look: Look, { names, expected }: Plan, say: Say): Promise<void> {
  const ours = [names.policy, names.internal, names.catalog]
  const there = await look<{ name: string; rights: string[] }>(
    `select n.nspname || '.' || c.relname as name, ${rightsOf} as rights
    from pg_class c join pg_namespace n on n.oid = c.relnamespace
    where n.nspname <> all ($1::text[]) and c.oid in (
      select objid from pg_shdepend where refclassid = 'pg_authid'::regclass and deptype = 'a'
        and refobjid = (select oid from pg_roles where rolname = $2) and classid = 'pg_class'::regclass
        and dbid = (select oid from pg_database where datname = current_database()))`,
    ours,
    names.owner,
  )
  // The catalogs say which columns a view reads, those of its filter among them.
  const read = await look<{ name: string; column: string }>(
    `select n.nspname || '.' || c.relname as name, a.attname as column from (${readByViews(names.policy)}) r
    join pg_class c on c.oid = r.relation and c.relkind in ('r', 'p', 'v', 'm', 'f')
    join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
      and (a.attnum = r.attribute or r.attribute = 0)`,
  )
  const wanted = new Map<string, Set<string>>()
  const want = (name: string, right: string): void => void wanted.set(name, (wanted.get(name) ?? new Set()).add(right))
  for (const { table, columns } of expected.views) {
    const name = `${table.base.schema}.${table.base.table}`
    for (const column of columns) want(name, `SELECT (${column})`)
    for (const column of table.insert) want(name, `INSERT (${column})`)
    for (const column of table.update) want(name, `UPDATE (${column})`)
    if (table.delete) want(name, 'DELETE')
  }
  const needed = new Map([...wanted].map(([name, rights]) => [name, new Set(rights)]))
  for (const { name, column } of read) want(name, `SELECT (${column})`)
  const prefix = `${names.owner} `
  for (const { name, rights } of there)
    for (const right of rights.filter((each) => each.startsWith(prefix)).map((each) => each.slice(prefix.length)))
      if (!wanted.get(name)?.has(right))
        say('error', 'setup', `role ${names.owner}`, `may ${right} on ${name}, which no view needs`)
  for (const [name, rights] of needed) {
    const held = new Set(there.find((each) => each.name === name)?.rights ?? [])
    for (const right of rights)
      if (!held.has(prefix + right))
        say('error', 'setup', `role ${names.owner}`, `lacks the right to ${right} on ${name}`)
  }
}

/** What agents hold outside of the schemas that were made for them, in any database of the server. */
async function agentRights(look: Look, { names, expected, databaseName }: Plan, say: Say): Promise<void> {
  const agents = expected.roles.filter(({ agent }) => agent !== undefined).map(({ name }) => name)
  const there = await look<{ role: string; how: string; what: string; schema: string | null; database: string | null }>(
    `select pg_get_userbyid(d.refobjid)::text as role, d.deptype as how,
      case when d.dbid in (0, (select oid from pg_database where datname = current_database()))
        then pg_describe_object(d.classid, d.objid, d.objsubid) else 'something in another database' end as what,
      case when d.dbid <> 0 then coalesce(
        (select n.nspname from pg_class c join pg_namespace n on n.oid = c.relnamespace
          where d.classid = 'pg_class'::regclass and c.oid = d.objid),
        (select n.nspname from pg_proc p join pg_namespace n on n.oid = p.pronamespace
          where d.classid = 'pg_proc'::regclass and p.oid = d.objid),
        (select nspname from pg_namespace where d.classid = 'pg_namespace'::regclass and oid = d.objid)) end as schema,
      case when d.classid = 'pg_database'::regclass then (select datname from pg_database where oid = d.objid) end as database
    from pg_shdepend d where d.refclassid = 'pg_authid'::regclass and d.deptype in ('o', 'a')
      and pg_get_userbyid(d.refobjid) = any ($1::text[])`,
    agents,
  )
  // A sequence that a default draws from is of the plan.
  const sequences = await look<{ role: string; what: string }>(
    `select pg_get_userbyid(a.grantee)::text as role, pg_describe_object('pg_class'::regclass, s.oid, 0) as what
    from (select * from unnest($1::text[], $2::text[], $3::text[]) as i (role, base_schema, base_table)) i
    join pg_namespace n on n.nspname = i.base_schema
    join pg_class b on b.relnamespace = n.oid and b.relname = i.base_table
    join pg_attrdef f on f.adrelid = b.oid
    join pg_depend d on d.classid = 'pg_attrdef'::regclass and d.objid = f.oid and d.refclassid = 'pg_class'::regclass
    join pg_class s on s.oid = d.refobjid and s.relkind = 'S',
    aclexplode(s.relacl) a
    where pg_get_userbyid(a.grantee) = i.role and a.privilege_type = 'USAGE'`,
    ...columnsOf(
      expected.views.flatMap(({ table, grants }) =>
        [...grants]
          .filter(([, given]) => given.has('insert'))
          .map(([role]) => [role, table.base.schema, table.base.table]),
      ),
    ),
  )
  for (const { role, how, what, schema, database } of there) {
    if (how === 'a' && [names.policy, names.internal, names.catalog].includes(schema ?? '')) continue
    if (database === databaseName) continue
    if (how === 'a' && sequences.some((each) => each.role === role && each.what === what)) continue
    say(
      'error',
      'setup',
      `role ${role}`,
      how === 'o' ? `owns ${what}` : `holds rights on ${what}`,
      `take that away, then ${again}`,
    )
  }
  const onDatabase = await look<{ right: string }>(
    `select ${grantee} || ' ' || a.privilege_type as right from pg_database d, aclexplode(d.datacl) a
    where d.datname = current_database() and pg_get_userbyid(a.grantee) = any ($1::text[]) and a.privilege_type <> 'CONNECT'`,
    agents,
  )
  for (const { right } of onDatabase)
    say(
      'error',
      'setup',
      `database ${databaseName}`,
      `gives ${right}, which is not of the plan`,
      `revoke it, then ${again}`,
    )
}

const columnsOf = (rows: readonly (readonly string[])[]): string[][] =>
  [0, 1, 2].map((place) => rows.map((row) => row[place] ?? ''))

/** What every role of the database can do, and so agents as well, should a statement ever pass the check that ought not. */
async function surroundings(look: Look, { databaseName, expected, names }: Plan, say: Say): Promise<void> {
  const ours = [names.policy, names.internal, names.catalog]
  const [public_] = await look<{
    temp: boolean
    make: boolean
    create: string[]
    strings: string
    others: string[]
  }>(
    `select exists (select from pg_database d, aclexplode(coalesce(d.datacl, acldefault('d', d.datdba))) a
        where d.datname = current_database() and a.grantee = 0 and a.privilege_type = 'TEMPORARY') as temp,
      exists (select from pg_database d, aclexplode(d.datacl) a
        where d.datname = current_database() and a.grantee = 0 and a.privilege_type = 'CREATE') as make,
      array(select nspname::text from pg_namespace n, aclexplode(n.nspacl) a
        where a.grantee = 0 and a.privilege_type = 'CREATE' order by 1) as create,
      current_setting('standard_conforming_strings') as strings,
      array(select coalesce((select datname from pg_database where oid = setdatabase), 'every database')::text
        from pg_db_role_setting where setrole = 0
          and setdatabase in (0, (select oid from pg_database where datname = current_database()))
          and 'standard_conforming_strings=off' = any (setconfig)) as others`,
  )
  const revoke = (what: string): string =>
    `as an administrator: revoke ${what} from public, if no other program needs it`
  if (public_?.temp)
    say(
      'warning',
      'around',
      `database ${databaseName}`,
      'every role can make temporary tables and functions',
      revoke(`temporary on database ${databaseName}`),
    )
  if (public_?.make)
    say(
      'warning',
      'around',
      `database ${databaseName}`,
      'every role can make schemas, and anything in them',
      revoke(`create on database ${databaseName}`),
    )
  for (const schema of public_?.create ?? [])
    say(
      'warning',
      'around',
      `schema ${schema}`,
      'every role can make tables and functions in it',
      revoke(`create on schema ${schema}`),
    )
  if (public_?.strings !== 'on' || (public_?.others.length ?? 0) > 0)
    say(
      'error',
      'around',
      `database ${databaseName}`,
      'standard_conforming_strings is off: a backslash would end strings elsewhere than Sallyport reads',
      'set standard_conforming_strings to on',
    )

  const relations = await look<{ name: string; rights: string }>(
    `select n.nspname || '.' || c.relname as name, string_agg(distinct a.privilege_type, ', ') as rights
    from pg_class c join pg_namespace n on n.oid = c.relnamespace,
    lateral (select privilege_type, grantee from aclexplode(c.relacl) union all
      select x.privilege_type, x.grantee from pg_attribute t, aclexplode(t.attacl) x where t.attrelid = c.oid) a
    where a.grantee = 0 and c.relkind in ('r', 'p', 'v', 'm', 'f', 'S') and n.nspname not in ('pg_catalog', 'information_schema')
      and n.nspname <> all ($1::text[])
      and not exists (select from pg_depend e where e.classid = 'pg_class'::regclass and e.objid = c.oid and e.deptype = 'e')
      and exists (select from aclexplode(n.nspacl) where grantee = 0 and privilege_type = 'USAGE')
    group by 1 order by 1 limit 100`,
    ours,
  )
  for (const { name, rights } of relations)
    say(
      'error',
      'around',
      `table ${name}`,
      `every role may ${rights} on it, agents' roles among them`,
      revoke(`all on ${name}`),
    )

  // Who may run an aggregate runs its parts as well, whoever else may run those.
  const functions = await look<{ kind: string; name: string; owner: string }>(
    `select case p.prokind when 'p' then 'procedure' else 'function' end as kind, p.oid::regprocedure::text as name,
      min(pg_get_userbyid(d.proowner)::text) as owner
    from pg_proc p join pg_namespace n on n.oid = p.pronamespace
    left join pg_aggregate a on a.aggfnoid = p.oid
    join pg_proc d on d.prosecdef and d.oid = any (array[p.oid, a.aggtransfn, a.aggfinalfn, a.aggcombinefn,
      a.aggserialfn, a.aggdeserialfn, a.aggmtransfn, a.aggminvtransfn, a.aggmfinalfn]::oid[])
    where n.nspname <> all ($1::text[])
      and exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) where grantee = 0)
      and (n.nspname in ('pg_catalog', 'information_schema')
        or exists (select from aclexplode(n.nspacl) where grantee = 0 and privilege_type = 'USAGE'))
    group by p.oid, p.prokind order by 2 limit 100`,
    ours,
  )
  for (const { kind, name, owner } of functions)
    say(
      'warning',
      'around',
      `${kind} ${name}`,
      `every role can run it with the rights of ${owner}`,
      revoke(`execute on ${kind} ${name}`),
    )

  const extensions = await look<{ name: string }>(
    `select distinct e.extname as name from pg_extension e
    join pg_depend d on d.refclassid = 'pg_extension'::regclass and d.refobjid = e.oid and d.deptype = 'e'
    join pg_proc p on d.classid = 'pg_proc'::regclass and p.oid = d.objid
    join pg_namespace n on n.oid = p.pronamespace
    where e.extname = any ($1::text[])
      and exists (select from aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) where grantee = 0)
      and (n.nspname = 'pg_catalog'
        or exists (select from aclexplode(n.nspacl) where grantee = 0 and privilege_type = 'USAGE'))
    order by 1`,
    reaching,
  )
  for (const { name } of extensions)
    say(
      'warning',
      'around',
      `extension ${name}`,
      'every role can call its functions, which reach other machines, files or programs',
      'move it to a schema that PUBLIC may not use, or revoke execute on its functions from public',
    )

  const servers = await look<{ name: string }>(
    `select srvname::text as name from pg_foreign_server s
    where exists (select from aclexplode(s.srvacl) where grantee = 0) order by 1 limit 100`,
  )
  for (const { name } of servers)
    say(
      'warning',
      'around',
      `server ${name}`,
      'every role can reach it, with the user that is mapped for PUBLIC if there is one',
      revoke(`all on foreign server ${name}`),
    )

  const objects = await look<{ oid: string }>(
    `select oid::text from pg_largeobject_metadata m
    where exists (select from aclexplode(m.lomacl) where grantee = 0) order by m.oid limit 100`,
  )
  for (const { oid } of objects)
    say(
      'error',
      'around',
      `large object ${oid}`,
      'every role can read or change it',
      revoke(`all on large object ${oid}`),
    )

  const agents = expected.roles.filter(({ agent }) => agent !== undefined).map(({ name }) => name)
  const [elsewhere] = await look<{ databases: string[] }>(
    `select array(select datname::text from pg_database d where datallowconn and datname <> current_database()
      and exists (select from pg_roles r where r.rolname = any ($1::text[]) and has_database_privilege(r.oid, d.oid, 'connect'))
      order by 1 limit 20) as databases`,
    agents,
  )
  if ((elsewhere?.databases.length ?? 0) > 0)
    say(
      'note',
      'around',
      `databases ${elsewhere?.databases.join(', ')}`,
      "agents' roles can connect to them as every role can; the gateway never does",
      'as an administrator: revoke connect on these databases from public, if no other program needs it',
    )
}

/** Extensions whose functions leave the database. */
const reaching: readonly string[] = [
  'adminpack',
  'aws_lambda',
  'aws_s3',
  'dblink',
  'file_fdw',
  'http',
  'lo',
  'mysql_fdw',
  'oracle_fdw',
  'pg_background',
  'pg_cron',
  'pg_net',
  'plsh',
  'postgres_fdw',
  'pgsql_http',
]

/**
 * Unique keys that an agent can write whole, of a table of which it sees some rows. A key is compared with those of all
 * rows before the filter is asked.
 */
async function keys(client: Queries, { base, insert, update, where }: ExpectedView['table'], say: Say): Promise<void> {
  if (where === undefined || insert.length === 0) return
  const { rows } = await client.query<{ name: string }>(
    `select i.indexrelid::regclass::text as name from pg_index i
    join pg_class c on c.oid = i.indrelid join pg_namespace n on n.oid = c.relnamespace
    where n.nspname = $1 and c.relname = $2 and (i.indisunique or i.indisexclusion)
      and not exists (select from pg_attribute a left join pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
        where a.attrelid = c.oid and a.attnum = any (i.indkey) and a.attname <> all ($3::text[])
          and (d.oid is null or pg_get_expr(d.adbin, d.adrelid) ~ 'nextval'))
    order by 1`,
    [base.schema, base.table, insert],
  )
  const at = `table ${base.schema}.${base.table}`
  for (const { name } of rows) {
    say(
      'note',
      'around',
      at,
      `${name} tells whoever inserts which keys are taken, also by rows of other sessions`,
      'leave a column of it out of `insert`, if keys are secret',
    )
    if (update.length > 0)
      say(
        'warning',
        'around',
        at,
        `ON CONFLICT DO UPDATE over ${name} reaches rows of other sessions: only the check of statements refuses it`,
        'leave a column of it out of `insert`, or leave out `update`',
      )
  }
}

/** What else changes when an agent writes. */
async function changes(
  client: Queries,
  { table, isWritable }: ExpectedView,
  { expected }: Plan,
  say: Say,
): Promise<void> {
  const where = `table ${table.base.schema}.${table.base.table}`
  const around = await catalogOf(client, table.base)
  if (around === undefined) return say('error', 'setup', where, 'is not there', 'correct `table` in the configuration')
  const guarded = await client.query<{ guarded: boolean }>(
    // Not by to_regclass: who may not use the schema can't name what is in it.
    `select c.relrowsecurity as guarded from pg_class c join pg_namespace n on n.oid = c.relnamespace
     where n.nspname = $1 and c.relname = $2`,
    [table.base.schema, table.base.table],
  )
  if (guarded.rows[0]?.guarded)
    say(
      'note',
      'around',
      where,
      "has row security: its policies decide for the views' owner as well",
      'make a policy for that role, or rows will be missing',
    )
  if (!isWritable && !table.delete) return
  await keys(client, table, say)
  const reached = around.cascades.filter(({ on }) => (on === 'delete' ? table.delete : table.update.length > 0))
  for (const { table: other, column, on, does } of reached)
    say(
      'note',
      'around',
      where,
      `on ${on}, ${other} (${column}) follows by its foreign key: ${does}`,
      'it is shown to whoever approves; agents need no right to that table',
    )
  const isKept = (name: string): boolean => expected.kept.some(({ base }) => baseName(base) === name)
  if (table.undo === true)
    for (const { table: other, column, on, does } of reached.filter((each) => !isKept(each.table)))
      say(
        'warning',
        'around',
        where,
        `on ${on}, ${other} (${column}) follows by its foreign key (${does}), and its changes are not kept: they can't be undone`,
        'describe that table too, with `undo: true`',
      )
  for (const { name, timing, function: run } of around.triggers)
    say(
      'note',
      'around',
      where,
      `trigger ${name} runs ${run} ${timing}, with the rights of the agent's role`,
      'it needs SECURITY DEFINER to reach what that role may not',
    )
}
