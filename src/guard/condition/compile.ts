import type { ASTNode } from '@marcbachmann/cel-js'

import type { ScopeTypes } from '../../core/condition.ts'
import { Failure } from '../../core/failure.ts'
import { functions, macros, methods, type Overload } from './functions.ts'
import { didYouMean } from './nearest.ts'
import {
  attempt,
  equal,
  isKeyedValue,
  isList,
  type Keyed,
  kindOf,
  maxList,
  maxText,
  order,
  roundCost,
  type Run,
  spend,
  timely,
  Unanswerable,
  unanswerable,
  type Value,
} from './run.ts'
import {
  bool,
  comparable,
  double,
  duration,
  dyn,
  int,
  isKeyed,
  isNumeric,
  join,
  listOf,
  mapOf,
  nothing,
  show,
  string,
  timestamp,
  type Type,
  variables,
} from './type.ts'

/** A checked expression: its type, and how to run it. */
export interface Compiled {
  readonly type: Type
  readonly run: Run
  /** Present when the value is known at load. */
  readonly constant?: Value
}

/** What is known at one place of the source. */
interface Context {
  readonly variables: ReadonlyMap<string, Type>
  /** Variables of the macros around, with their place in the frame. */
  readonly locals: ReadonlyMap<string, { readonly type: Type; readonly slot: number }>
  readonly reads: Set<string>
  readonly depth: number
}

/** How deeply expressions may stand in one another; `a && b && c` counts two. */
const maxDepth = 128

/** Checks an expression and makes it runnable. Throws a Failure that says what is wrong and where. */
export function compileExpression(
  node: ASTNode,
  types: ScopeTypes,
): Compiled & { readonly reads: ReadonlySet<string> } {
  const reads = new Set<string>()
  const compiled = compile(node, { variables: variables(types), locals: new Map(), reads, depth: 0 })
  return { ...compiled, reads }
}

/** A Failure at a place: `column 7: …`, with the line when there are several. */
export function wrong(at: { readonly pos: number; readonly input?: string }, message: string): Failure {
  const before = (at.input ?? '').slice(0, at.pos)
  const column = before.length - before.lastIndexOf('\n')
  const line = before.split('\n').length
  return new Failure('invalid', `${at.input?.includes('\n') ? `line ${line}, ` : ''}column ${column}: ${message}`)
}

function compile(node: ASTNode, around: Context): Compiled {
  if (around.depth >= maxDepth)
    throw wrong(node, `the condition nests more than ${maxDepth} deep: split it in several rules`)
  const context = { ...around, depth: around.depth + 1 }
  switch (node.op) {
    case 'value':
      return literal(node, node.args)
    case 'id':
      return variable(node, node.args, context)
    case '.':
      return select(node, compileTarget(node.args[0], context), node.args[1], context)
    case '[]':
      return index(node, context)
    case 'call':
      return call(node, node.args[0], node.args[1], context)
    case 'rcall':
      return methodCall(node, node.args[0], node.args[1], node.args[2], context)
    case 'list':
      return list(node, context)
    case 'map':
      return map(node, context)
    case '?:':
      return choice(node, context)
    case '||':
    case '&&':
      return logic(node.op, node, context)
    case '!_':
      return not(compile(node.args, context), node.args)
    case '-_':
      return negate(compile(node.args, context), node.args)
    case '==':
    case '!=':
      return equality(node.op, node, context)
    case '<':
    case '<=':
    case '>':
    case '>=':
      return comparison(node.op, node, context)
    case 'in':
      return membership(node, context)
    case '+':
    case '-':
    case '*':
    case '/':
    case '%':
      return arithmetic(node.op, node, context)
    default:
      throw wrong(node, `\`${(node as ASTNode).op}\` is not part of the language`)
  }
}

// Values and names

const known = (type: Type, constant: Value): Compiled => ({ type, constant, run: () => constant })

function literal(node: ASTNode, value: unknown): Compiled {
  switch (typeof value) {
    case 'string':
      return known(string, value)
    case 'boolean':
      return known(bool, value)
    case 'number':
      return known(double, value)
    case 'bigint': {
      const number = Number(value)
      if (!Number.isSafeInteger(number))
        throw wrong(node, `\`${value}\` is beyond ±9007199254740991, where JSON numbers are no longer exact`)
      return known(int, number)
    }
    default:
      if (value === null) return known(nothing, null)
      throw wrong(node, 'bytes and unsigned numbers are not part of the language: write a string or an int')
  }
}

function variable(node: ASTNode, name: string, context: Context): Compiled {
  const local = context.locals.get(name)
  if (local !== undefined) {
    const { slot, type } = local
    return { type, run: (frame) => frame.locals[slot] as Value }
  }
  const type = context.variables.get(name)
  if (type === undefined) {
    const names = [...context.variables.keys(), ...context.locals.keys()]
    const fact = context.variables.get('session')
    const hint =
      fact?.kind === 'object' && fact.names.includes(name)
        ? `: did you mean \`session.${name}\`?`
        : didYouMean(name, names)
    throw wrong(node, `there is no \`${name}\`${hint}`)
  }
  // Looked at as a whole; a field that is selected from it says its own name instead.
  if (name === 'args') context.reads.add('*')
  return { type, run: (frame) => frame.scope[name as 'args'] }
}

/** Compiles what something is selected from, without counting that as reading all of the arguments. */
function compileTarget(node: ASTNode, context: Context): Compiled {
  const before = context.reads.has('*')
  const target = compile(node, context)
  if (isArguments(node, context) && !before) context.reads.delete('*')
  return target
}

const isArguments = (node: ASTNode, context: Context): boolean =>
  node.op === 'id' && node.args === 'args' && !context.locals.has('args')

/** What stands in the source, short, for messages. */
const quote = (node: ASTNode): string => {
  const text = node.input.slice(node.range.start, node.range.end)
  return `\`${text.length > 60 ? `${text.slice(0, 57)}...` : text}\``
}

/** The type of a field, or a Failure that names the nearest one. */
function fieldType(node: ASTNode, target: Compiled, name: string): Type {
  const { type } = target
  if (type.kind === 'dyn') return dyn
  if (type.kind === 'map') return type.value
  if (type.kind !== 'object') throw wrong(node, `${show(type)} has no field \`${name}\``)
  const found = type.field(name)
  if (found === undefined) {
    const names = type.names.length === 0 ? 'it has no fields' : didYouMean(name, type.names).replace(/^: /, '')
    throw wrong(
      node,
      `\`${name}\` is not declared in ${quote(node.op === '.' || node.op === '[]' ? node.args[0] : node)}: ${names}`,
    )
  }
  return found
}

function select(node: ASTNode, target: Compiled, name: string, context: Context): Compiled {
  const type = fieldType(node, target, name)
  const from = (node as ASTNode & { op: '.' }).args[0]
  if (isArguments(from, context)) context.reads.add(name)
  const place = quote(node)
  const owner = quote(from)
  const { run } = target
  return {
    type,
    run(frame) {
      const value = run(frame)
      if (!isKeyedValue(value)) return unanswerable(`${owner} is ${kindOf(value)}, not an object`)
      if (!Object.hasOwn(value, name)) return unanswerable(`${place} is missing: ask \`has(...)\` first if it may be`)
      return checked(value[name] as Value, type, place)
    },
  }
}

/** The value, when it is what its declaration says; what a schema promised is never taken on trust. */
function checked(value: Value, type: Type, place: string): Value {
  switch (type.kind) {
    case 'string':
      if (typeof value === 'string') return value
      break
    case 'int':
      // Beyond 2^53 a JSON number is no longer the one that was sent.
      if (Number.isSafeInteger(value)) return (value as number) + 0
      break
    case 'timestamp':
    case 'duration':
      if (typeof value === 'number') return timely(type.kind, value)
      break
    case 'double':
      if (Number.isFinite(value)) return value
      break
    case 'bool':
      if (typeof value === 'boolean') return value
      break
    case 'null':
      if (value === null) return value
      break
    case 'list':
      if (isList(value)) return value
      break
    case 'map':
    case 'object':
      if (isKeyedValue(value)) return value
      break
    case 'dyn':
      if (typeof value !== 'number' || Number.isFinite(value)) return value
  }
  return unanswerable(`${place} is ${kindOf(value)}, not ${type.kind === 'dyn' ? 'a finite number' : show(type)}`)
}

function index(node: ASTNode & { op: '[]' }, context: Context): Compiled {
  const [from, key] = node.args
  const target = compileTarget(from, context)
  const at = compile(key, context)
  if (typeof at.constant === 'string' && target.type.kind !== 'list') return select(node, target, at.constant, context)
  if (isArguments(from, context)) context.reads.add('*')
  const { type } = target
  if (
    type.kind === 'list'
      ? at.type.kind !== 'int' && at.type.kind !== 'dyn'
      : isKeyed(type) && at.type.kind !== 'string' && at.type.kind !== 'dyn'
  )
    throw wrong(key, `${show(type)} is indexed by ${type.kind === 'list' ? 'int' : 'string'}, not by ${show(at.type)}`)
  if (type.kind !== 'list' && !isKeyed(type) && type.kind !== 'dyn')
    throw wrong(node, `${show(type)} cannot be indexed`)
  if (at.type.kind !== 'int' && at.type.kind !== 'string' && at.type.kind !== 'dyn')
    throw wrong(key, `expected int or string as an index, found ${show(at.type)}`)
  const found = type.kind === 'list' ? type.element : type.kind === 'map' ? type.value : dyn
  const place = quote(node)
  return {
    type: found,
    run(frame) {
      const value = target.run(frame)
      const where = at.run(frame)
      if (isList(value) && typeof where === 'number') {
        if (!Number.isInteger(where) || where < 0 || where >= value.length)
          return unanswerable(`${place} is outside of the list`)
        return checked(value[where] as Value, found, place)
      }
      if (isKeyedValue(value) && typeof where === 'string') {
        if (!Object.hasOwn(value, where)) return unanswerable(`${place} is missing`)
        return checked(value[where] as Value, found, place)
      }
      return unanswerable(`${place}: ${kindOf(value)} cannot be indexed by ${kindOf(where)}`)
    },
  }
}

function list(node: ASTNode & { op: 'list' }, context: Context): Compiled {
  const items = node.args.map((item) => compile(item, context))
  let element: Type | undefined = items[0]?.type ?? dyn
  for (const [at, item] of items.entries()) {
    const wider = join(element, item.type)
    if (wider === undefined)
      throw wrong(
        node.args[at] as ASTNode,
        `a list holds one type: expected ${show(element)}, found ${show(item.type)}`,
      )
    element = wider
  }
  if (items.every(({ constant }) => constant !== undefined))
    return known(
      listOf(element),
      items.map(({ constant }) => constant as Value),
    )
  return { type: listOf(element), run: (frame) => items.map(({ run }) => run(frame)) }
}

function map(node: ASTNode & { op: 'map' }, context: Context): Compiled {
  const entries = node.args.map(([key, value]) => {
    const name = compile(key, context)
    if (typeof name.constant !== 'string') throw wrong(key, 'expected a string in quotes as a key')
    return { key, name: name.constant, value: compile(value, context), at: value }
  })
  let value: Type = entries[0]?.value.type ?? dyn
  for (const [position, entry] of entries.entries()) {
    if (entries.findIndex(({ name }) => name === entry.name) < position)
      throw wrong(entry.key, `key \`${entry.name}\` stands twice`)
    const wider = join(value, entry.value.type)
    if (wider === undefined)
      throw wrong(entry.at, `a map holds one type: expected ${show(value)}, found ${show(entry.value.type)}`)
    value = wider
  }
  const build = (of: (entry: (typeof entries)[number]) => Value): Keyed => {
    // Without a prototype, so that a key such as `__proto__` is a key.
    const made: Record<string, Value> = Object.create(null) as Record<string, Value>
    for (const entry of entries) made[entry.name] = of(entry)
    return made
  }
  if (entries.every((entry) => entry.value.constant !== undefined))
    return known(
      mapOf(value),
      build((entry) => entry.value.constant as Value),
    )
  return { type: mapOf(value), run: (frame) => build((entry) => entry.value.run(frame)) }
}

// Logic

function wantBool(node: ASTNode, found: Compiled, what: string): void {
  if (found.type.kind !== 'bool' && found.type.kind !== 'dyn')
    throw wrong(node, `${what} is bool, but ${quote(node)} is ${show(found.type)}`)
}

const notBool = (node: ASTNode, value: Value): Unanswerable =>
  new Unanswerable(`${quote(node)} is ${kindOf(value)}, not bool`)

function choice(node: ASTNode & { op: '?:' }, context: Context): Compiled {
  const [test, yes, no] = node.args
  const when = compile(test, context)
  wantBool(test, when, 'what stands before `?`')
  const one = compile(yes, context)
  const other = compile(no, context)
  const type = join(one.type, other.type)
  if (type === undefined)
    throw wrong(no, `both answers of \`? :\` have one type: expected ${show(one.type)}, found ${show(other.type)}`)
  return {
    type,
    run(frame) {
      const value = when.run(frame)
      if (typeof value !== 'boolean') throw notBool(test, value)
      return value ? one.run(frame) : other.run(frame)
    },
  }
}

/**
 * `&&` and `||`, which CEL defines without an order: a side that decides alone makes up for a failure of the other.
 */
function logic(op: '||' | '&&', node: ASTNode & { op: '||' | '&&' }, context: Context): Compiled {
  const [left, right] = node.args
  const one = compile(left, context)
  const other = compile(right, context)
  wantBool(left, one, `a side of \`${op}\``)
  wantBool(right, other, `a side of \`${op}\``)
  const deciding = op === '||'
  return {
    type: bool,
    run(frame) {
      const first = attempt(one.run, frame)
      if (first === deciding) return deciding
      const second = other.run(frame)
      if (second === deciding) return deciding
      if (typeof first !== 'boolean') throw first instanceof Unanswerable ? first : notBool(left, first)
      if (typeof second !== 'boolean') throw notBool(right, second)
      return !deciding
    },
  }
}

function not(operand: Compiled, node: ASTNode): Compiled {
  wantBool(node, operand, 'what stands after `!`')
  return {
    type: bool,
    run(frame) {
      const value = operand.run(frame)
      if (typeof value !== 'boolean') throw notBool(node, value)
      return !value
    },
  }
}

// Comparing

type Infix = ASTNode & { readonly args: readonly [ASTNode, ASTNode] }

function equality(op: '==' | '!=', node: Infix, context: Context): Compiled {
  const [left, right] = node.args
  const one = compile(left, context)
  const other = compile(right, context)
  if (!comparable(one.type, other.type))
    throw wrong(
      node,
      `${quote(left)} is ${show(one.type)} and ${quote(right)} is ${show(other.type)}: they are never equal`,
    )
  const same = op === '=='
  return { type: bool, run: (frame) => equal(frame, one.run(frame), other.run(frame)) === same }
}

const holds: Readonly<Record<'<' | '<=' | '>' | '>=', (position: number) => boolean>> = {
  '<': (position) => position < 0,
  '<=': (position) => position <= 0,
  '>': (position) => position > 0,
  '>=': (position) => position >= 0,
}

function comparison(op: '<' | '<=' | '>' | '>=', node: Infix, context: Context): Compiled {
  const [left, right] = node.args
  const one = compile(left, context)
  const other = compile(right, context)
  if (!ordered(one.type, other.type))
    throw wrong(
      node,
      `${quote(left)} is ${show(one.type)} and ${quote(right)} is ${show(other.type)}: they have no order`,
    )
  const test = holds[op]
  return { type: bool, run: (frame) => test(order(frame, one.run(frame), other.run(frame))) }
}

const hasOrder = new Set(['int', 'double', 'string', 'bool'])

function ordered(left: Type, right: Type): boolean {
  if (left.kind === 'timestamp' || left.kind === 'duration') return left.kind === right.kind
  if (left.kind === 'dyn') return right.kind === 'dyn' || hasOrder.has(right.kind)
  return (
    hasOrder.has(left.kind) &&
    (right.kind === 'dyn' || left.kind === right.kind || (isNumeric(left) && isNumeric(right)))
  )
}

function membership(node: Infix, context: Context): Compiled {
  const [left, right] = node.args
  const one = compile(left, context)
  const other = compile(right, context)
  const { type } = other
  if (
    type.kind === 'list'
      ? !comparable(one.type, type.element)
      : isKeyed(type) && one.type.kind !== 'string' && one.type.kind !== 'dyn'
  )
    throw wrong(node, `${quote(left)} is ${show(one.type)}: it is never in ${show(type)}`)
  if (type.kind !== 'list' && !isKeyed(type) && type.kind !== 'dyn')
    throw wrong(
      right,
      `expected a list or an object after \`in\`, found ${show(type)}${type.kind === 'string' ? ': did you mean `contains`?' : ''}`,
    )
  const { constant } = other
  if (constant !== undefined && isList(constant) && constant.every((item) => typeof item !== 'object')) {
    const members = new Set<unknown>(constant)
    return { type: bool, run: (frame) => members.has(one.run(frame)) }
  }
  return {
    type: bool,
    run(frame) {
      const value = one.run(frame)
      const members = other.run(frame)
      if (isList(members)) {
        for (const member of members) {
          spend(frame, 5)
          if (equal(frame, value, member)) return true
        }
        return false
      }
      if (!isKeyedValue(members)) return unanswerable(`${quote(right)} is ${kindOf(members)}, not a list or an object`)
      return typeof value === 'string'
        ? Object.hasOwn(members, value)
        : unanswerable(`a key is a string, not ${kindOf(value)}`)
    },
  }
}

// Calculating

type Sign = '+' | '-' | '*' | '/' | '%'

/** A number that comparisons can rely on: exact as an int, finite as a double. */
function exact(value: number, type: Type): number {
  if (type.kind === 'timestamp' || type.kind === 'duration') return timely(type.kind, value)
  if (type.kind === 'double' ? Number.isFinite(value) : Number.isSafeInteger(value)) return value + 0
  return unanswerable('a calculation leaves the numbers that are exact')
}

const calculate: Readonly<Record<Sign, (left: number, right: number, type: Type) => number>> = {
  '+': (left, right, type) => exact(left + right, type),
  '-': (left, right, type) => exact(left - right, type),
  '*': (left, right, type) => exact(left * right, type),
  '/': (left, right, type) => {
    if (right === 0) return unanswerable('division by zero')
    return exact(type.kind === 'int' ? Math.trunc(left / right) : left / right, type)
  },
  '%': (left, right, type) => (right === 0 ? unanswerable('division by zero') : exact(left % right, type)),
}

/** The type of the result, or undefined where the operation is not defined. */
function resultOf(sign: Sign, left: Type, right: Type): Type | undefined {
  if (sign === '%') return left.kind === 'int' && right.kind === 'int' ? int : undefined
  if (isNumeric(left) && isNumeric(right)) return join(left, right)
  if (sign === '+' || sign === '-') {
    if (left.kind === 'timestamp' && right.kind === 'duration') return timestamp
    if (left.kind === 'duration' && right.kind === 'duration') return duration
    if (sign === '-' && left.kind === 'timestamp' && right.kind === 'timestamp') return duration
    if (sign === '+' && left.kind === 'duration' && right.kind === 'timestamp') return timestamp
  }
  // A number whose type is not declared is a double; whether `/` cuts off the rest must not be left to that.
  if (sign === '/') return undefined
  if ((left.kind === 'dyn' && isNumeric(right)) || (right.kind === 'dyn' && isNumeric(left))) return double
  if (left.kind === 'dyn' && right.kind === 'dyn') return sign === '+' ? dyn : double
  if (sign !== '+') return undefined
  if (left.kind === 'dyn') return right.kind === 'string' ? string : right.kind === 'list' ? listOf(dyn) : undefined
  if (right.kind === 'dyn') return left.kind === 'string' ? string : left.kind === 'list' ? listOf(dyn) : undefined
  return left.kind === 'string' || left.kind === 'list' ? join(left, right) : undefined
}

function arithmetic(sign: Sign, node: Infix, context: Context): Compiled {
  const [left, right] = node.args
  const one = compile(left, context)
  const other = compile(right, context)
  const type = resultOf(sign, one.type, other.type)
  if (type === undefined) {
    const unknown =
      one.type.kind === 'dyn' || other.type.kind === 'dyn' ? ': say which type it is with int(...) or double(...)' : ''
    throw wrong(node, `\`${sign}\` is not defined for ${show(one.type)} and ${show(other.type)}${unknown}`)
  }
  const numbers = calculate[sign]
  const numeric = type.kind === 'dyn' ? double : type
  return {
    type,
    run(frame) {
      const a = one.run(frame)
      const b = other.run(frame)
      if (typeof a === 'number' && typeof b === 'number') return numbers(a, b, numeric)
      if (sign === '+' && typeof a === 'string' && typeof b === 'string') {
        if (a.length + b.length > maxText) return unanswerable(`a text grows beyond ${maxText} characters`)
        spend(frame, (a.length + b.length) >> 3)
        return a + b
      }
      if (sign === '+' && isList(a) && isList(b)) {
        if (a.length + b.length > maxList) return unanswerable(`a list grows beyond ${maxList} elements`)
        spend(frame, a.length + b.length)
        return [...a, ...b]
      }
      return unanswerable(`\`${sign}\` is not defined for ${kindOf(a)} and ${kindOf(b)}`)
    },
  }
}

function negate(operand: Compiled, node: ASTNode): Compiled {
  const { type } = operand
  if (!isNumeric(type) && type.kind !== 'duration' && type.kind !== 'dyn')
    throw wrong(node, `\`-\` is not defined for ${show(type)}`)
  if (typeof operand.constant === 'number') return known(type, 0 - operand.constant)
  return {
    type: type.kind === 'dyn' ? double : type,
    run(frame) {
      const value = operand.run(frame)
      return typeof value === 'number' ? 0 - value : unanswerable(`${quote(node)} is ${kindOf(value)}, not a number`)
    },
  }
}

// Functions and macros

function call(node: ASTNode, name: string, args: readonly ASTNode[], context: Context): Compiled {
  if (name === 'has') return has(node, args, context)
  const overloads = functions.get(name)
  if (overloads !== undefined) return apply(node, name, overloads, args, context)
  const hint =
    methods.has(name) || macros.includes(name)
      ? `: write \`x.${name}(...)\``
      : didYouMean(name, ['has', ...functions.keys()])
  throw wrong(node, `there is no function \`${name}\`${hint}`)
}

function methodCall(
  node: ASTNode,
  name: string,
  target: ASTNode,
  args: readonly ASTNode[],
  context: Context,
): Compiled {
  if (macros.includes(name)) return macro(node, name, target, args, context)
  const overloads = methods.get(name)
  if (overloads !== undefined) return apply(node, name, overloads, [target, ...args], context)
  const hint =
    functions.has(name) || name === 'has'
      ? `: write \`${name}(...)\``
      : didYouMean(name, [...methods.keys(), ...macros])
  throw wrong(node, `there is no method \`${name}\`${hint}`)
}

function apply(
  node: ASTNode,
  name: string,
  overloads: readonly Overload[],
  args: readonly ASTNode[],
  context: Context,
): Compiled {
  const operands = args.map((arg) => compile(arg, context))
  const fits = ({ takes }: Overload): boolean =>
    takes.length === operands.length && takes.every((kinds, at) => kinds.includes((operands[at] as Compiled).type.kind))
  const overload = overloads.find(fits)
  if (overload === undefined) {
    const wanted = overloads.map(
      ({ takes }) => `(${takes.map((kinds) => kinds.filter((kind) => kind !== 'dyn').join('|')).join(', ')})`,
    )
    throw wrong(
      node,
      `\`${name}\` does not take (${operands.map(({ type }) => show(type)).join(', ')}): expected ${wanted.join(' or ')}`,
    )
  }
  const run = overload.make(
    operands.map((operand) => operand.run),
    operands.map((operand) => operand.constant),
    (at, message) => wrong(args[at] ?? node, message),
  )
  if (overload.constant && operands.every(({ constant }) => constant !== undefined)) {
    // A constant that cannot be read is an error now, not at the first call.
    try {
      return known(overload.gives, run({ scope: undefined as never, locals: [], work: 10_000 }))
    } catch (thrown) {
      throw thrown instanceof Unanswerable ? wrong(node, thrown.message) : thrown
    }
  }
  return { type: overload.gives, run }
}

function has(node: ASTNode, args: readonly ASTNode[], context: Context): Compiled {
  const [path] = args
  if (args.length !== 1 || path === undefined || (path.op !== '.' && path.op !== '[]'))
    throw wrong(node, 'has(...) takes one field, as in `has(args.name)`')
  const from = path.args[0]
  const target = compileTarget(from, context)
  const name = path.op === '.' ? path.args[1] : compile(path.args[1], context).constant
  if (typeof name !== 'string')
    throw wrong(path, 'has(...) takes a field that is named, as in `has(args.name)` or `has(args["a name"])`')
  fieldType(path, target, name)
  if (isArguments(from, context)) context.reads.add(name)
  const owner = quote(from)
  return {
    type: bool,
    run(frame) {
      const value = target.run(frame)
      return isKeyedValue(value)
        ? Object.hasOwn(value, name)
        : unanswerable(`${owner} is ${kindOf(value)}, not an object`)
    },
  }
}

/** The macros: each walks a list, or the keys of an object, and pays for every round. */
function macro(node: ASTNode, name: string, over: ASTNode, args: readonly ASTNode[], context: Context): Compiled {
  const range = compile(over, context)
  const { type } = range
  if (type.kind !== 'list' && !isKeyed(type) && type.kind !== 'dyn')
    throw wrong(over, `\`${name}\` walks a list or the keys of an object, but ${quote(over)} is ${show(type)}`)
  const [iterator, first, second] = args
  const inner = (): Context => {
    if (iterator?.op !== 'id')
      throw wrong(iterator ?? node, `\`${name}\` takes a name first, as in \`list.${name}(x, ...)\``)
    if (context.variables.has(iterator.args) || context.locals.has(iterator.args))
      throw wrong(iterator, `\`${iterator.args}\` is taken: choose another name`)
    const element = type.kind === 'list' ? type.element : isKeyed(type) ? string : dyn
    return {
      ...context,
      locals: new Map(context.locals).set(iterator.args, { type: element, slot: context.locals.size }),
    }
  }
  if (first === undefined || args.length > (name === 'map' ? 3 : 2))
    throw wrong(node, `expected \`${name}(x, ${name === 'map' ? 'value' : 'condition'})\``)
  const body = inner()
  const step = compile(first, body)
  const slot = context.locals.size
  const element = type.kind === 'list' ? type.element : dyn
  const place = `an element of ${quote(over)}`

  const items: (frame: Parameters<Run>[0]) => readonly Value[] = (frame) => {
    const value = range.run(frame)
    if (isList(value)) return value
    if (!isKeyedValue(value)) return unanswerable(`${quote(over)} is ${kindOf(value)}, not a list or an object`)
    const keys = Object.keys(value)
    spend(frame, 10 * keys.length)
    return keys
  }
  const test =
    (run: Run, at: ASTNode): Run =>
    (frame) => {
      const value = run(frame)
      if (typeof value !== 'boolean') throw notBool(at, value)
      return value
    }
  /** Enters a round: pays for it, and sets the name. */
  const enter = (frame: Parameters<Run>[0], item: Value): void => {
    spend(frame, roundCost)
    frame.locals[slot] = checked(item, element, place)
  }

  if (name === 'map') {
    const transform = second === undefined ? step : compile(second, body)
    if (second !== undefined) wantBool(first, step, 'the condition of `map`')
    const keep = second === undefined ? undefined : test(step.run, first)
    return {
      type: listOf(transform.type),
      run(frame) {
        const made: Value[] = []
        for (const item of items(frame)) {
          enter(frame, item)
          if (keep === undefined || keep(frame) === true) made.push(transform.run(frame))
        }
        return made
      },
    }
  }

  wantBool(first, step, `the condition of \`${name}\``)
  const predicate = test(step.run, first)
  switch (name) {
    case 'filter':
      return {
        type: listOf(type.kind === 'list' ? type.element : isKeyed(type) ? string : dyn),
        run(frame) {
          const kept: Value[] = []
          for (const item of items(frame)) {
            enter(frame, item)
            if (predicate(frame) === true) kept.push(item)
          }
          return kept
        },
      }
    case 'exists_one':
      return {
        type: bool,
        run(frame) {
          let found = 0
          for (const item of items(frame)) {
            enter(frame, item)
            if (predicate(frame) === true) found++
          }
          return found === 1
        },
      }
    default: {
      // As with `||` and `&&`, one element that decides makes up for others that failed.
      const deciding = name === 'exists'
      return {
        type: bool,
        run(frame) {
          let failed: Unanswerable | undefined
          for (const item of items(frame)) {
            const value = attempt((inside) => {
              enter(inside, item)
              return predicate(inside)
            }, frame)
            if (value === deciding) return deciding
            if (value instanceof Unanswerable) failed ??= value
          }
          if (failed !== undefined) throw failed
          return !deciding
        },
      }
    }
  }
}
