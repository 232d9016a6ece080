import { types } from './lists.ts'
import { isFields, wordIn } from './tree.ts'
import type { Fields } from './tree.ts'

// What of the catalogs a statement may name where the description says `catalog: names`. What each of them shows is in
// `catalog-views.ts`: a statement never reads a catalog itself, but a view or a function of the same name.

/** Where a statement names a catalog, a column of it with its schema, or a function or a type that looks something up. */
export interface CatalogReference {
  /** `pg_class`, `information_schema.tables`. */
  readonly name: string
  readonly kind: 'relation' | 'column' | 'function' | 'type'
  /** Whether a schema is written before it. */
  readonly isQualified: boolean
  /** Where the whole name begins in the text, in bytes of UTF-8. */
  readonly at: number
}

const words = (text: string): string[] => text.split(/\s+/).filter(Boolean)

/** Columns of each catalog in PostgreSQL 14 to 18, whether or not anything is shown in them. */
const columns = {
  pg_am: 'oid amname amhandler amtype',
  pg_attrdef: 'oid adrelid adnum adbin',
  pg_attribute: `
    attrelid attname atttypid attlen attnum atttypmod attndims attbyval attalign attstorage attcompression
    attnotnull atthasdef atthasmissing attidentity attgenerated attisdropped attislocal attinhcount attcollation
    attstattarget attacl attoptions attfdwoptions attmissingval attcacheoff`,
  pg_auth_members: 'oid roleid member grantor admin_option inherit_option set_option',
  pg_class: `
    oid relname relnamespace reltype reloftype relowner relam relfilenode reltablespace relpages reltuples
    relallvisible relallfrozen reltoastrelid relhasindex relisshared relpersistence relkind relnatts relchecks
    relhasrules relhastriggers relhassubclass relrowsecurity relforcerowsecurity relispopulated relreplident
    relispartition relrewrite relfrozenxid relminmxid relacl reloptions relpartbound`,
  pg_collation: `
    oid collname collnamespace collowner collprovider collisdeterministic collencoding collcollate collctype
    colllocale collicurules collversion colliculocale`,
  pg_constraint: `
    oid conname connamespace contype condeferrable condeferred conenforced convalidated conrelid contypid conindid
    conparentid confrelid confupdtype confdeltype confmatchtype conislocal coninhcount connoinherit conperiod conkey
    confkey conpfeqop conppeqop conffeqop confdelsetcols conexclop conbin`,
  pg_database: `
    oid datname datdba encoding datlocprovider datistemplate datallowconn dathasloginevt datconnlimit datfrozenxid
    datminmxid dattablespace datcollate datctype datlocale daticurules datcollversion datacl daticulocale
    datlastsysoid`,
  pg_depend: 'classid objid objsubid refclassid refobjid refobjsubid deptype',
  pg_description: 'objoid classoid objsubid description',
  pg_enum: 'oid enumtypid enumsortorder enumlabel',
  pg_event_trigger: 'oid evtname evtevent evtowner evtfoid evtenabled evttags',
  pg_extension: 'oid extname extowner extnamespace extrelocatable extversion extconfig extcondition',
  pg_foreign_data_wrapper: 'oid fdwname fdwowner fdwhandler fdwvalidator fdwacl fdwoptions',
  pg_foreign_server: 'oid srvname srvowner srvfdw srvtype srvversion srvacl srvoptions',
  pg_foreign_table: 'ftrelid ftserver ftoptions',
  pg_index: `
    indexrelid indrelid indnatts indnkeyatts indisunique indnullsnotdistinct indisprimary indisexclusion
    indimmediate indisclustered indisvalid indcheckxmin indisready indislive indisreplident indkey indcollation
    indclass indoption indexprs indpred`,
  pg_indexes: 'schemaname tablename indexname tablespace indexdef',
  pg_inherits: 'inhrelid inhparent inhseqno inhdetachpending',
  pg_language: 'oid lanname lanowner lanispl lanpltrusted lanplcallfoid laninline lanvalidator lanacl',
  pg_matviews: 'schemaname matviewname matviewowner tablespace hasindexes ispopulated definition',
  pg_namespace: 'oid nspname nspowner nspacl',
  pg_opclass: 'oid opcmethod opcname opcnamespace opcowner opcfamily opcintype opcdefault opckeytype',
  pg_partitioned_table: 'partrelid partstrat partnatts partdefid partattrs partclass partcollation partexprs',
  pg_policies: 'schemaname tablename policyname permissive roles cmd qual with_check',
  pg_policy: 'oid polname polrelid polcmd polpermissive polroles polqual polwithcheck',
  pg_proc: `
    oid proname pronamespace proowner prolang procost prorows provariadic prosupport prokind prosecdef proleakproof
    proisstrict proretset provolatile proparallel pronargs pronargdefaults prorettype proargtypes proallargtypes
    proargmodes proargnames proargdefaults protrftypes prosrc probin prosqlbody proconfig proacl`,
  pg_publication: 'oid pubname pubowner puballtables pubinsert pubupdate pubdelete pubtruncate pubviaroot pubgencols',
  pg_publication_namespace: 'oid pnpubid pnnspid',
  pg_publication_rel: 'oid prpubid prrelid prqual prattrs',
  pg_publication_tables: 'pubname schemaname tablename attnames rowfilter',
  pg_range: 'rngtypid rngsubtype rngmultitypid rngcollation rngsubopc rngcanonical rngsubdiff',
  pg_rewrite: 'oid rulename ev_class ev_type ev_enabled is_instead ev_qual ev_action',
  pg_roles: `
    rolname rolsuper rolinherit rolcreaterole rolcreatedb rolcanlogin rolreplication rolconnlimit rolpassword
    rolvaliduntil rolbypassrls rolconfig oid`,
  pg_rules: 'schemaname tablename rulename definition',
  pg_sequence: 'seqrelid seqtypid seqstart seqincrement seqmax seqmin seqcache seqcycle',
  pg_sequences: `
    schemaname sequencename sequenceowner data_type start_value min_value max_value increment_by cycle cache_size
    last_value`,
  pg_settings: `
    name setting unit category short_desc extra_desc context vartype source min_val max_val enumvals boot_val
    reset_val sourcefile sourceline pending_restart`,
  pg_statistic_ext: 'oid stxrelid stxname stxnamespace stxowner stxkeys stxstattarget stxkind stxexprs',
  pg_tables: 'schemaname tablename tableowner tablespace hasindexes hasrules hastriggers rowsecurity',
  pg_tablespace: 'oid spcname spcowner spcacl spcoptions',
  pg_trigger: `
    oid tgrelid tgparentid tgname tgfoid tgtype tgenabled tgisinternal tgconstrrelid tgconstrindid tgconstraint
    tgdeferrable tginitdeferred tgnargs tgattr tgargs tgqual tgoldtable tgnewtable`,
  pg_type: `
    oid typname typnamespace typowner typlen typbyval typtype typcategory typispreferred typisdefined typdelim
    typrelid typsubscript typelem typarray typinput typoutput typreceive typsend typmodin typmodout typanalyze
    typalign typstorage typnotnull typbasetype typtypmod typndims typcollation typdefaultbin typdefault typacl`,
  pg_user: 'usename usesysid usecreatedb usesuper userepl usebypassrls passwd valuntil useconfig',
  pg_views: 'schemaname viewname viewowner definition',
  'information_schema.applicable_roles': 'grantee role_name is_grantable',
  'information_schema.check_constraints': 'constraint_catalog constraint_schema constraint_name check_clause',
  'information_schema.column_domain_usage': `
    domain_catalog domain_schema domain_name table_catalog table_schema table_name column_name`,
  'information_schema.column_privileges': `
    grantor grantee table_catalog table_schema table_name column_name privilege_type is_grantable`,
  'information_schema.column_udt_usage': `
    udt_catalog udt_schema udt_name table_catalog table_schema table_name column_name`,
  'information_schema.columns': `
    table_catalog table_schema table_name column_name ordinal_position column_default is_nullable data_type
    character_maximum_length character_octet_length numeric_precision numeric_precision_radix numeric_scale
    datetime_precision interval_type interval_precision character_set_catalog character_set_schema
    character_set_name collation_catalog collation_schema collation_name domain_catalog domain_schema domain_name
    udt_catalog udt_schema udt_name scope_catalog scope_schema scope_name maximum_cardinality dtd_identifier
    is_self_referencing is_identity identity_generation identity_start identity_increment identity_maximum
    identity_minimum identity_cycle is_generated generation_expression is_updatable`,
  'information_schema.constraint_column_usage': `
    table_catalog table_schema table_name column_name constraint_catalog constraint_schema constraint_name`,
  'information_schema.constraint_table_usage': `
    table_catalog table_schema table_name constraint_catalog constraint_schema constraint_name`,
  'information_schema.domain_constraints': `
    constraint_catalog constraint_schema constraint_name domain_catalog domain_schema domain_name is_deferrable
    initially_deferred`,
  'information_schema.domains': `
    domain_catalog domain_schema domain_name data_type character_maximum_length character_octet_length
    character_set_catalog character_set_schema character_set_name collation_catalog collation_schema collation_name
    numeric_precision numeric_precision_radix numeric_scale datetime_precision interval_type interval_precision
    domain_default udt_catalog udt_schema udt_name scope_catalog scope_schema scope_name maximum_cardinality
    dtd_identifier`,
  'information_schema.element_types': `
    object_catalog object_schema object_name object_type collection_type_identifier data_type
    character_maximum_length character_octet_length character_set_catalog character_set_schema character_set_name
    collation_catalog collation_schema collation_name numeric_precision numeric_precision_radix numeric_scale
    datetime_precision interval_type interval_precision udt_catalog udt_schema udt_name scope_catalog scope_schema
    scope_name maximum_cardinality dtd_identifier domain_default`,
  'information_schema.enabled_roles': 'role_name',
  'information_schema.information_schema_catalog_name': 'catalog_name',
  'information_schema.key_column_usage': `
    constraint_catalog constraint_schema constraint_name table_catalog table_schema table_name column_name
    ordinal_position position_in_unique_constraint`,
  'information_schema.parameters': `
    specific_catalog specific_schema specific_name ordinal_position parameter_mode is_result as_locator
    parameter_name data_type character_maximum_length character_octet_length character_set_catalog
    character_set_schema character_set_name collation_catalog collation_schema collation_name numeric_precision
    numeric_precision_radix numeric_scale datetime_precision interval_type interval_precision udt_catalog udt_schema
    udt_name scope_catalog scope_schema scope_name maximum_cardinality dtd_identifier parameter_default`,
  'information_schema.referential_constraints': `
    constraint_catalog constraint_schema constraint_name unique_constraint_catalog unique_constraint_schema
    unique_constraint_name match_option update_rule delete_rule`,
  'information_schema.role_table_grants': `
    grantor grantee table_catalog table_schema table_name privilege_type is_grantable with_hierarchy`,
  'information_schema.routines': `
    specific_catalog specific_schema specific_name routine_catalog routine_schema routine_name routine_type
    module_catalog module_schema module_name udt_catalog udt_schema udt_name data_type character_maximum_length
    character_octet_length character_set_catalog character_set_schema character_set_name collation_catalog
    collation_schema collation_name numeric_precision numeric_precision_radix numeric_scale datetime_precision
    interval_type interval_precision type_udt_catalog type_udt_schema type_udt_name scope_catalog scope_schema
    scope_name maximum_cardinality dtd_identifier routine_body routine_definition external_name external_language
    parameter_style is_deterministic sql_data_access is_null_call sql_path schema_level_routine
    max_dynamic_result_sets is_user_defined_cast is_implicitly_invocable security_type to_sql_specific_catalog
    to_sql_specific_schema to_sql_specific_name as_locator created last_altered new_savepoint_level is_udt_dependent
    result_cast_from_data_type result_cast_as_locator result_cast_char_max_length result_cast_char_octet_length
    result_cast_char_set_catalog result_cast_char_set_schema result_cast_char_set_name result_cast_collation_catalog
    result_cast_collation_schema result_cast_collation_name result_cast_numeric_precision
    result_cast_numeric_precision_radix result_cast_numeric_scale result_cast_datetime_precision
    result_cast_interval_type result_cast_interval_precision result_cast_type_udt_catalog
    result_cast_type_udt_schema result_cast_type_udt_name result_cast_scope_catalog result_cast_scope_schema
    result_cast_scope_name result_cast_maximum_cardinality result_cast_dtd_identifier`,
  'information_schema.schemata': `
    catalog_name schema_name schema_owner default_character_set_catalog default_character_set_schema
    default_character_set_name sql_path`,
  'information_schema.sequences': `
    sequence_catalog sequence_schema sequence_name data_type numeric_precision numeric_precision_radix numeric_scale
    start_value minimum_value maximum_value increment cycle_option`,
  'information_schema.table_constraints': `
    constraint_catalog constraint_schema constraint_name table_catalog table_schema table_name constraint_type
    is_deferrable initially_deferred enforced nulls_distinct`,
  'information_schema.table_privileges': `
    grantor grantee table_catalog table_schema table_name privilege_type is_grantable with_hierarchy`,
  'information_schema.tables': `
    table_catalog table_schema table_name table_type self_referencing_column_name reference_generation
    user_defined_type_catalog user_defined_type_schema user_defined_type_name is_insertable_into is_typed
    commit_action`,
  'information_schema.triggers': `
    trigger_catalog trigger_schema trigger_name event_manipulation event_object_catalog event_object_schema
    event_object_table action_order action_condition action_statement action_orientation action_timing
    action_reference_old_table action_reference_new_table action_reference_old_row action_reference_new_row created`,
  'information_schema.view_column_usage': `
    view_catalog view_schema view_name table_catalog table_schema table_name column_name`,
  'information_schema.view_table_usage': 'view_catalog view_schema view_name table_catalog table_schema table_name',
  'information_schema.views': `
    table_catalog table_schema table_name view_definition check_option is_updatable is_insertable_into
    is_trigger_updatable is_trigger_deletable is_trigger_insertable_into`,
}

/**
 * Catalogs that a session may read where the description says `catalog: names`, and their columns, by name; those of the
 * information schema with their schema. Each has a view that shows only what the session may see.
 */
export const catalogRelations: ReadonlyMap<string, ReadonlySet<string>> = new Map(
  Object.entries(columns).map(([name, list]) => [name, new Set(words(list))]),
)

/**
 * Functions that can be called where the description says `catalog: names`, and that are replaced by ones of the same
 * name: PostgreSQL's own would tell of anything whose number or name they are given.
 */
export const catalogFunctions: ReadonlySet<string> = new Set(
  words(`
    format_type to_regclass to_regtype pg_get_userbyid
    pg_table_is_visible pg_type_is_visible pg_function_is_visible pg_collation_is_visible pg_operator_is_visible
    pg_opclass_is_visible pg_statistics_obj_is_visible
    pg_get_expr pg_get_indexdef pg_get_constraintdef pg_get_viewdef pg_get_ruledef pg_get_triggerdef pg_get_partkeydef
    pg_get_functiondef pg_get_function_result pg_get_function_arguments pg_get_function_identity_arguments
    pg_get_serial_sequence pg_get_statisticsobjdef_columns pg_tablespace_location
    pg_table_size pg_relation_size pg_total_relation_size
    obj_description col_description shobj_description
    current_setting set_config
  `),
)

/** The same of functions in the information schema. */
export const informationFunctions: ReadonlySet<string> = new Set(['_pg_expandarray'])

/** Functions that tell nothing but of the connection itself, and stay as they are. */
export const sessionFunctions: ReadonlySet<string> = new Set(
  words(`current_database current_schema current_schemas version pg_client_encoding pg_encoding_to_char
    pg_get_keywords pg_is_in_recovery pg_size_pretty`),
)

/** Types that values of catalogs have, and whose input looks nothing up. */
export const catalogTypes: ReadonlySet<string> = new Set(['oid', 'int2vector', 'oidvector', 'xid'])

/** Types whose input looks a name up. Those of a list of known names stay as they are; these two have a replacement. */
export const lookupTypes: ReadonlySet<string> = new Set(['regclass', 'regtype'])

/** `citext` is only there where somebody has put it. */
export const isBuiltInType = (name: string): boolean => types.has(name) && name !== 'citext'

/** Whether a constant, turned to such a type, is the name of something that every database has. */
export function isBuiltIn(text: string, type: string, isList: boolean): boolean {
  const names = isList ? (/^\{([^{}"\\]*)\}$/.exec(text)?.[1]?.split(',') ?? ['']) : [text]
  const known = (name: string): boolean => {
    const plain = name.replace(/^pg_catalog\./, '')
    if (type === 'regproc') return ['array_in', 'array_recv'].includes(plain)
    return type === 'regclass' ? plain.startsWith('pg_') && catalogRelations.has(plain) : isBuiltInType(plain)
  }
  return names.every((name) => known(name.trim()))
}

/**
 * The text with each reference turned to the schema that shows catalogs as a session may see them. Undefined where
 * nothing has to be turned, or a reference is written in a way that isn't understood: its `pg_catalog` is quoted, or
 * there is a comment inside.
 */
export function catalogText(text: string, references: readonly CatalogReference[], schema: string): string | undefined {
  const bytes = Buffer.from(text)
  const parts: string[] = []
  let end = bytes.length
  for (const { isQualified, at } of references.toSorted((a, b) => b.at - a.at)) {
    const rest = bytes.subarray(at, end).toString()
    const written = /^(?:pg_catalog|information_schema)(?=\.)/i.exec(rest)?.[0]
    if (isQualified && written === undefined) return undefined
    parts.unshift(isQualified ? schema : `${schema}.`, rest.slice(written?.length ?? 0))
    end = at
  }
  return references.length === 0 ? undefined : bytes.subarray(0, end).toString() + parts.join('')
}

/**
 * Whether the tree of the text that goes on is that of the text that came, with each reference turned and nothing else.
 * `catalogText` works on the text, so what comes of it is held against what was checked.
 */
export function isOnlyTurned(
  before: unknown,
  after: unknown,
  references: readonly CatalogReference[],
  schema: string,
): boolean {
  const wanted = new Set(references.map(({ kind, at }) => `${kind} ${at}`))
  const found = new Set<string>()

  const same = (a: unknown, b: unknown): boolean => {
    if (Array.isArray(a)) return Array.isArray(b) && a.length === b.length && a.every((each, at) => same(each, b[at]))
    if (!isFields(a) || !isFields(b)) return a === b
    const turned = turn(a)
    const keys = namesIn(turned)
    return keys.length === namesIn(b).length && keys.every((key) => same(turned[key], b[key]))
  }
  const turn = (node: Fields): Fields => {
    for (const [kind, field] of named) {
      const key = `${kind} ${Number(node['location'] ?? 0)}`
      if (node[field] === undefined || !wanted.has(key)) continue
      found.add(key)
      if (kind === 'relation') return { ...node, schemaname: schema }
      const list = node[field] as readonly unknown[]
      const isTurned = ['pg_catalog', 'information_schema'].includes(wordIn(list[0]) ?? '') && list.length > 1
      return { ...node, [field]: [{ String: { sval: schema } }, ...list.slice(isTurned ? 1 : 0)] }
    }
    return node
  }
  return same(before, after) && found.size === wanted.size
}

/** The field that each kind of reference has in the tree. */
const named = [
  ['relation', 'relname'],
  ['function', 'funcname'],
  ['column', 'fields'],
  ['type', 'names'],
] as const

/** All but places in the text, which move, and the version of the parser, which doesn't. */
const namesIn = (node: Fields): readonly string[] =>
  Object.keys(node).filter((key) => !places.has(key) && node[key] !== undefined)
const places: ReadonlySet<string> = new Set([
  'location',
  'stmt_location',
  'stmt_len',
  'rexpr_list_start',
  'rexpr_list_end',
  'list_start',
  'list_end',
])
