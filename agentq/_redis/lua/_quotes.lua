--[[
Events repeat texts that stand in what is stored with them; such a text is sent once. A quote is
"<item> <at> <content> <from> <to>": into that item, after its byte `at`, belong the bytes `from` to `to` of that content.
`more` are items that are counted on.
]]
local function fill(quotes, contents, items, more)
  for _, quote in ipairs(quotes) do
    local item, at, content, from, to = string.match(quote, '^(%d+) (%d+) (%d+) (%d+) (%d+)$')
    item, at = tonumber(item), tonumber(at)
    local list = items
    if item > #items then
      list, item = more, item - #items
    end
    local text = string.sub(contents[tonumber(content)], tonumber(from), tonumber(to))
    list[item] = string.sub(list[item], 1, at) .. text .. string.sub(list[item], at + 1)
  end
end
