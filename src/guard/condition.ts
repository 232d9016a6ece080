import { type ASTNode, Environment, ParseError } from '@marcbachmann/cel-js'

import type { CompileCondition } from '../core/condition.ts'
import { Failure } from '../core/failure.ts'
import { compileExpression, wrong } from './condition/compile.ts'
import { Unanswerable, workLimit } from './condition/run.ts'
import { show } from './condition/type.ts'

const maxSource = 4_096

/** Reads the grammar of CEL. What the words mean is ours: `condition/compile.ts`. */
const grammar = new Environment({
  limits: { maxAstNodes: 4_096, maxDepth: 64, maxListElements: 1_000, maxMapEntries: 1_000, maxCallArguments: 8 },
})

/**
 * Compiles a condition of the policy (`docs/conditions.md`): CEL, checked against the types of what it reads.
 *
 * Each result is pure and holds no state between evaluations. It costs at most `workLimit` units of work whatever the
 * arguments are, reads own fields of data alone, and never calls what it is given.
 */
export const compileCondition: CompileCondition = (source, types) => {
  const { type, run, reads } = load(() => compileExpression(parse(source), types))
  if (type.kind !== 'bool' && type.kind !== 'dyn')
    throw new Failure('invalid', `a condition is bool, but this one is ${show(type)}`)

  return {
    source,
    reads: [...reads].sort(),
    evaluate(scope) {
      try {
        const answer = run({ scope, locals: [], work: workLimit })
        if (typeof answer === 'boolean') return answer
      } catch (thrown) {
        if (thrown instanceof Unanswerable) throw new Failure('invalid', thrown.message)
        throw new Failure('invalid', 'the condition cannot be evaluated', { cause: thrown })
      }
      throw new Failure('invalid', 'the condition did not answer with a bool')
    },
  }
}

function parse(source: string): ASTNode {
  if (source.length > maxSource)
    throw new Failure('invalid', `a condition has at most ${maxSource} characters: split it in several rules`)
  try {
    return grammar.parse(source).ast
  } catch (thrown) {
    if (!(thrown instanceof ParseError)) throw thrown
    const at = thrown.range?.start ?? thrown.node?.pos ?? 0
    throw wrong(
      { pos: at, input: source },
      thrown.summary.replace(/^[A-Z](?=[a-z])/, (first) => first.toLowerCase()),
    )
  }
}

/** A condition that exhausts the stack is one that nests too deeply; anything else that is not ours is hidden. */
function load<T>(work: () => T): T {
  try {
    return work()
  } catch (thrown) {
    if (thrown instanceof Failure) throw thrown
    throw new Failure('invalid', 'the condition cannot be read: it nests too deeply', { cause: thrown })
  }
}
