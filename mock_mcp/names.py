"""Word lists that every domain of the mock world draws from."""

from __future__ import annotations


def words(text: str) -> tuple[str, ...]:
    """Return the words of a text (a readable way to write a long tuple)."""
    return tuple(text.split())


FIRST_NAMES = words(
    """
    Ada Alan Alice Amir Anna Anton Bella Ben Bruno Carla Carlos Cora Dana Daniel David Diego Dora
    Elena Eli Emma Eric Eva Felix Fiona Frank Gina Greta Hana Harry Hugo Ian Ida Ines Iris Ivan
    Jack Jana Joel Jonas Julia Karim Kate Kira Lara Laura Leo Lena Lily Linda Louis Lucas Maria
    Mark Marta Max Mia Milo Mina Nadia Nina Noah Nora Olga Omar Oscar Paul Peter Petra Rafael Rita
    Robin Rosa Ruth Sam Sara Simon Sofia Stella Tara Theo Tina Tom Uma Vera Victor Wanda Will Yara
    Yusuf Zara Zoe
    """
)
"""Given names of people, plain ASCII."""

LAST_NAMES = words(
    """
    Abbott Adler Almeida Archer Baker Barnes Becker Bell Bishop Blake Brandt Brooks Burke Carter
    Castro Chang Cole Conti Cooper Costa Cruz Dalton Diaz Dixon Duran Ellis Evans Farrell Fischer
    Fleming Flores Ford Foster Fox Garcia Gibson Grant Gray Hale Hansen Harper Hayes Hoffman Holt
    Howard Hunt Ito Jensen Jordan Kaya Keller Khan Klein Lang Larsen Lee Lopez Lowe Lund Mason
    Meyer Miller Moore Moreno Morris Murphy Nash Nolan Novak Okafor Olsen Owens Park Patel Pereira
    Perry Porter Price Quinn Ramos Reed Reyes Rivera Rossi Russo Sato Schmidt Shaw Silva Singh
    Stone Suarez Tanaka Torres Turner Vargas Vogel Wagner Walsh Weber Wells West Wong Young Zhang
    """
)
"""Family names of people, plain ASCII."""

CITIES = words(
    """
    Accra Amsterdam Ankara Athens Atlanta Baku Barcelona Basel Beirut Berlin Bern Bogota Boston
    Bremen Brussels Budapest Cairo Calgary Chicago Cologne Dallas Delhi Denver Dresden Dubai
    Dublin Florence Geneva Genoa Ghent Hamburg Hanoi Havana Helsinki Houston Istanbul Jakarta Kyiv
    Krakow Kyoto Lagos Leeds Leipzig Lima Lisbon London Lyon Madrid Malaga Manila Miami Milan
    Montreal Mumbai Munich Nairobi Naples Nice Osaka Oslo Ottawa Paris Perth Porto Prague Quito
    Riga Rome Rotterdam Santiago Seattle Seoul Seville Sofia Stockholm Sydney Taipei Tallinn Tokyo
    Toronto Toulouse Tunis Turin Valencia Venice Verona Vienna Vilnius Warsaw Zagreb Zurich
    """
)
"""Cities, one word each."""

PRODUCT_ADJECTIVES = words(
    """
    Amber Azure Basic Black Blue Bold Brass Bright Bronze Calm Classic Clear Compact Copper Coral
    Cotton Crisp Crystal Dark Deep Deluxe Double Eco Elite Fast Fine Flat Fresh Golden Grand Green
    Grey Heavy Ivory Jade Large Light Linen Lunar Magnetic Maple Marble Metal Mini Modern Natural
    Noble Oak Olive Orange Pearl Plain Portable Prime Pure Purple Quick Quiet Rapid Red Royal Ruby
    Rustic Sharp Silent Silver Simple Slim Smart Smooth Soft Solar Solid Steel Strong Sturdy Super
    Swift Thermal Tiny Travel Ultra Urban Velvet Vintage Violet Vivid Warm White Wide Wild Winter
    Wooden Yellow
    """
)
"""First words of product names."""

PRODUCT_NOUNS = words(
    """
    Apron Backpack Basket Bench Bike Blanket Blender Board Bottle Bowl Box Bracelet Broom Brush
    Bucket Cabinet Cable Camera Candle Chair Charger Clock Cup Curtain Cushion Desk Drill Drone
    Fan Filter Flask Fork Frame Glove Grinder Guitar Hammer Hammock Hat Headset Heater Helmet Hook
    Jacket Jar Kettle Keyboard Knife Ladder Lamp Lantern Laptop Lock Mat Mirror Mixer Monitor
    Mouse Mug Needle Notebook Oven Pan Pen Pencil Phone Piano Pillow Plate Printer Pump Radio
    Razor Ring Robe Router Rug Ruler Saddle Scale Scarf Scissors Shelf Shovel Skillet Sofa Speaker
    Spoon Stool Stove Table Tablet Tape Tent Timer Toaster Towel Tray Tripod Umbrella Vase Wallet
    Watch Whistle Wrench
    """
)
"""Second words of product names."""

DEPARTMENTS = words(
    """
    Accounting Administration Advertising Analytics Archive Audit Branding Catering Compliance
    Construction Delivery Design Development Editorial Education Engineering Events Exports
    Facilities Finance Fleet Gardens Imports Innovation Insurance Inventory Legal Licensing
    Logistics Maintenance Marketing Media Operations Packaging Payroll Planning Procurement
    Production Publishing Quality Recruiting Repairs Research Retail Safety Sales Security
    Services Shipping Software Strategy Supply Support Training Transport Treasury Warehouse
    Workshop
    """
)
"""Departments of a company."""

TOPICS = words(
    """
    acoustics agriculture algebra anatomy archery astronomy baking ballet banking beekeeping
    biology botany budget camping carpentry ceramics chemistry chess cinema climate coffee comedy
    cooking cycling dance diving drama ecology economics electricity embroidery energy farming
    fashion fencing festivals fishing football forestry furniture gardening genetics geography
    geology geometry grammar health hiking history hockey housing jazz jewelry journalism judo
    kayaking knitting language law lighting literature logic mapping mathematics mechanics
    medicine music navigation nutrition opera optics painting parks philosophy photography physics
    poetry pottery recycling robotics rowing running sailing sculpture skating skiing soil
    statistics swimming taxes tea tennis theatre tourism trade traffic travel typography volcanoes
    water weather weaving wildlife wine
    """
)
"""Topics of meetings, notes and pages."""

WORDS = words(
    """
    acorn anchor anvil apple arrow aspen badge bamboo banner barrel basil beacon beaver birch
    bison bridge bronze butter button cactus canal candle canyon carbon castle cedar cherry cliff
    cloud clover cobalt comet compass condor copper coral cotton crane crater creek cricket crown
    dahlia daisy delta desert diamond dolphin dragon eagle echo ember engine falcon feather fern
    field flame flint forest fossil fountain galaxy garden garnet ginger glacier granite grape
    hammer harbor hazel heron hill honey horizon indigo island ivory jaguar jasmine jungle kernel
    kite lagoon lantern laurel lemon lily linen lion lotus magnet mango maple marble meadow melon
    meteor mint mirror moon mosaic mountain nebula nectar needle nickel oasis ocean olive onyx
    orbit orchid otter oyster palm panda panther pearl pebble pepper pigeon pine planet plum pond
    poppy prairie prism quartz rabbit radar raven reef ribbon river robin rocket rose saffron
    salmon sand sapphire shadow shore silver spark sparrow spruce star stone storm summit sunset
    swan temple thunder tiger timber topaz tulip tunnel turtle valley vapor velvet violet walnut
    water willow winter wolf zebra zenith
    """
)
"""Plain nouns for codes, titles and texts."""
