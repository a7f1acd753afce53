"""Words of the pretraining corpus.

`NOUNS`, `ATTRIBUTES` and `VERBS` name the corpus's own entities, fields and tools; the mock
world uses others. `GENERAL` is vocabulary only: its words are copied and spelled in the corpus,
so that the tokenizer has a trained token for common English and computing words.
"""

from __future__ import annotations


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


VERBS = _words("fetch load read inspect pull probe lookup scan query view report trace")

WRITE_VERBS = _words("put store push save record submit register post enter log")

NOUNS = _words(
    """planet river engine garden museum recipe song bridge castle island tower forest whale
    rocket violin statue volcano glacier harbor lantern meadow orchard parrot quarry saddle
    temple umbrella valley wagon canyon beacon cellar dragon falcon gallery hammer jewel kettle
    lizard magnet needle otter pebble ribbon sailor tunnel village walnut yacht zebra anchor
    barrel candle desert eagle fossil goblet helmet idol jacket kayak ladder mirror nest oven
    piano quilt robot scarf tractor urn vase windmill cave drum flute guitar harp"""
)

ATTRIBUTES = _words(
    """color weight height age speed width depth origin owner shape taste sound length volume
    rank grade season climate metal fabric pattern texture power range level score code label
    motto anthem diet habitat crew captain founder architect pilot keeper painter composer era
    style flavor scent density mass radius orbit angle slope flow current charge"""
)

PLACES = _words("north south east west center hill lake shore field road gate yard bay cape")

GENERAL = _words(
    """the a an of to in on for and or is are was it its this that with by from at as be not no
    yes can cannot do does did has have had will what which who when where why how many much all
    any each every one two three four five six seven eight nine ten first last next new old name
    names id ids key value values number numbers text word words line lines list lists table
    tables row rows column columns record records field fields data file files page pages link
    links note notes message messages date dates time day days week month year today tomorrow
    customer customers product products order orders employee employees department price prices
    stock quantity status city cities country email phone address contact contacts person people
    company store shop sales total sum mean median average count minimum maximum percent amount
    currency rate unit result results expression equation calculate convert compute find search
    open close get set send create update delete add remove write append reply forward call
    check show tell give need want please look use make take put keep change replaced replace
    valid longer again error missing unknown invalid required argument arguments tool tools
    function functions offered given named title subject body content start end meeting event
    calendar reminder remind map maps location place route direction distance note document
    summary region category type segment item items inventory salary manager office hired
    pending shipped delivered cancelled open paid active true false null string integer object
    array property properties parameters description required default enum items minimum
    EUR USD GBP JPY CHF here there than then also only just still about after before between
    into over under more less most least same other another such these those your my me you we
    they he she him her his our us up down out if so but because while me back soon late early
    please thanks hello good great small large big short long high low fast slow right left
    bring buy lunch dinner train flight car home work school book books bank doctor water light
    I am The What Which Who When Where How Find Give Look Please Set Send Tell Add Make Show
    Get There None Sorry No Yes It That This Error Call Its"""
)

NOT_PARAMETERS = frozenset(
    _words(
        """a amount b body by city column columns content csv currency date days destination email
        end equation expression format function invitee left link measure message name number
        numbers on operator order origin part path phone place query right rows sql start
        status stock subject table text time title to transport unit value values whole"""
    )
)
"""Words that name parameters of the mock tools: no tool of the corpus is called with them."""

SYLLABLES = _words(
    """ba be bi bo bu ca ce co cu da de di do du fa fe fi fo ga ge go gu ha he hi ho ja jo ka ke
    ki ko la le li lo lu ma me mi mo mu na ne ni no nu pa pe pi po ra re ri ro ru sa se si so su
    ta te ti to tu va ve vi vo wa we wi za ze zo an ar el en er es il in is ol on or os ul un ur
    us ton ley ver son man dor bel nor wick ham ford stan"""
)
