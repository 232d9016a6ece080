import { readFile } from 'node:fs/promises'
import { expect, test } from 'vitest'
import { checkSettings } from './check.ts'
import { firstSettings } from './first.ts'
import { problemInWords } from './load.ts'

test('sallyport.example.yaml is ok, and warns of nothing', async () => {
  const text = await readFile(new URL('../../sallyport.example.yaml', import.meta.url), 'utf8')
  const { problems, warnings } = await checkSettings(text, 'sallyport.example.yaml')
  expect([...problems, ...warnings].map(problemInWords)).toEqual([])
})

test('the file of `sallyport init` is ok, and warns of nothing, also with its comments taken up', async () => {
  const all = firstSettings.replace(/^( *)# (people:|  anna:|mode:)/gm, '$1$2')
  for (const text of [firstSettings, all.replace('mode: observe', 'mode: lockdown')]) {
    const { problems, warnings } = await checkSettings(text, 'sallyport.yaml')
    expect([...problems, ...warnings].map(problemInWords)).toEqual([])
  }
})
